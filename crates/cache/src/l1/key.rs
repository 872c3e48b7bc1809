//! Keys of all entities in one map, which bring their hash along.

use std::any::Any;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use moka::Equivalent;

use crate::l1::local::EntityId;

/// A key of any entity.
#[derive(Clone)]
pub(crate) struct StoredKey {
    pub(crate) entity: EntityId,
    hash: u64,
    key: Arc<dyn Any + Send + Sync>,
    /// Compares two keys of the type of this one.
    equals: fn(&dyn Any, &dyn Any) -> bool,
}

impl StoredKey {
    pub(crate) fn new<K: Clone + Eq + Send + Sync + 'static>(
        entity: EntityId,
        hash: u64,
        key: &K,
    ) -> Self {
        let equals = |one: &dyn Any, other: &dyn Any| {
            one.downcast_ref::<K>().is_some_and(|one| other.downcast_ref::<K>() == Some(one))
        };
        Self { entity, hash, key: Arc::new(key.clone()), equals }
    }

    /// The key, if it is of this type.
    pub(crate) fn key<K: 'static>(&self) -> Option<&K> {
        self.key.downcast_ref()
    }

    /// Whether it is this key.
    pub(crate) fn is<K: Eq + 'static>(&self, key: &K) -> bool {
        self.key.downcast_ref::<K>() == Some(key)
    }
}

impl Debug for StoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKey")
            .field("entity", &self.entity)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl PartialEq for StoredKey {
    fn eq(&self, other: &Self) -> bool {
        self.entity == other.entity
            && self.hash == other.hash
            && (self.equals)(self.key.as_ref(), other.key.as_ref())
    }
}

impl Eq for StoredKey {}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A borrowed key, so that a hit allocates nothing.
pub(crate) struct Probe<'a, K> {
    pub(crate) entity: EntityId,
    pub(crate) hash: u64,
    pub(crate) key: &'a K,
}

impl<K> Hash for Probe<'_, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Eq + 'static> Equivalent<StoredKey> for Probe<'_, K> {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.entity == stored.entity && self.hash == stored.hash && stored.is(self.key)
    }
}

/// The keys bring their hash along; hashing it again would gain nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct HashIsKnown;

impl BuildHasher for HashIsKnown {
    type Hasher = KnownHash;

    fn build_hasher(&self) -> KnownHash {
        KnownHash(0)
    }
}

#[derive(Debug, Default)]
pub(crate) struct KnownHash(u64);

impl Hasher for KnownHash {
    fn write(&mut self, bytes: &[u8]) {
        // Only whole hashes are ever written; folding keeps the hasher total.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
