//! Where an entity has its entries in Redis.

use crate::l1::local::EntityId;

/// The entries of one entity in one schema. Another release may have another one beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Space {
    pub(crate) id: EntityId,
    pub(crate) entity: &'static str,
    pub(crate) schema: u16,
    /// Whether the entries are the pages of a list.
    pub(crate) is_list: bool,
}

impl Space {
    /// The key of an entry.
    pub(crate) fn entry_key(self, key_text: &str) -> String {
        let Self { entity, schema, .. } = self;
        format!("cache:{entity}:{schema}:{key_text}")
    }

    /// The key of the epoch in force.
    pub(crate) fn epoch_key(self) -> String {
        let Self { entity, schema, .. } = self;
        format!("cache-epoch:{entity}:{schema}")
    }

    /// The key of what the data set claims to have been told.
    pub(crate) fn claim_key(self) -> String {
        let Self { entity, schema, .. } = self;
        format!("cache-applied:{entity}:{schema}")
    }

    /// The key of the collection in force: pages that carry another one are old.
    pub(crate) fn collection_key(self) -> String {
        let Self { entity, schema, .. } = self;
        format!("cache-collection:{entity}:{schema}")
    }

    /// The key of the keys that are read most, and of whether they have faded of late.
    pub(crate) fn hot_keys(self) -> [String; 2] {
        let Self { entity, schema, .. } = self;
        let key = format!("cache-hot:{entity}:{schema}");
        [[key.as_str(), ":faded"].concat(), key]
    }

    /// The key whose value an entry must carry, and a lease is given for.
    pub(crate) fn fence_key(self) -> String {
        if self.is_list { self.collection_key() } else { self.epoch_key() }
    }
}
