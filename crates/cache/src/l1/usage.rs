//! How much of L1 each entity has.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::l1::local::EntityId;

/// What the entities of a process hold. An entry counts from its fill until its memory is free.
#[derive(Debug, Default)]
pub(crate) struct Usages(RwLock<Vec<Arc<Usage>>>);

#[derive(Debug, Default)]
struct Usage {
    bytes: AtomicU64,
    entries: AtomicU64,
}

/// One counted entry. Dropped, it counts no more.
#[derive(Debug)]
pub(crate) struct Held {
    usage: Arc<Usage>,
    bytes: u64,
}

impl Usages {
    /// Counts an entry of an entity.
    pub(crate) fn hold(&self, entity: EntityId, bytes: u32) -> Held {
        let usage = self.usage(entity);
        let bytes = u64::from(bytes);
        usage.bytes.fetch_add(bytes, Ordering::Relaxed);
        usage.entries.fetch_add(1, Ordering::Relaxed);
        Held { usage, bytes }
    }

    /// Bytes and entries of an entity.
    pub(crate) fn of(&self, entity: EntityId) -> (u64, u64) {
        let usage = self.usage(entity);
        (usage.bytes.load(Ordering::Relaxed), usage.entries.load(Ordering::Relaxed))
    }

    fn usage(&self, EntityId(id): EntityId) -> Arc<Usage> {
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        if let Some(usage) = self.0.read().get(place) {
            return Arc::clone(usage);
        }
        let mut usages = self.0.write();
        // Ids are handed out one after the other from zero.
        while usages.len() <= place {
            usages.push(Arc::default());
        }
        Arc::clone(&usages[place])
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.usage.entries.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_counts_until_it_is_dropped() {
        let usages = Usages::default();
        let (token, pool) = (EntityId(1), EntityId(0));
        let one = usages.hold(token, 100);
        let two = usages.hold(token, 50);
        assert_eq!((usages.of(token), usages.of(pool)), ((150, 2), (0, 0)));
        drop(one);
        assert_eq!(usages.of(token), (50, 1));
        drop(two);
        assert_eq!(usages.of(token), (0, 0));
    }
}
