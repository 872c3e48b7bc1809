//! L1: entries of all entities in the process's memory, under one bound in bytes.

use std::any::Any;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::Equivalent;
use moka::sync::Cache as Moka;
use tokio::time::Instant;

use crate::l1::fence::Fences;
use crate::l1::usage::{Held, Usages};
use crate::{Entity, Entry};

/// What an entry costs beyond its key and its value: map slot, counters, timers, allocations.
const OVERHEAD_BYTES: usize = 150;
/// Longest time to live.
const TTL_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// An entry outlives its time to live by this factor, to be served as stale when the store fails.
const RETENTION_FACTOR: u32 = 2;

/// Which entity of the process a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EntityId(pub(crate) u32);

/// L1 with its fence.
pub(crate) struct Local {
    /// Values.
    entries: Entries,
    /// Keys that have no row. They have a bound of their own, so that a flood of unknown keys
    /// pushes no value out. A key is in one of the two, except while it moves.
    absent: Entries,
    fences: Fences,
    hasher: RandomState,
    usages: Usages,
    bytes_max: u64,
}

type Entries = Moka<StoredKey, Arc<Slot>, HashIsKnown>;

/// One entry: a value, or the knowledge that there is none.
#[derive(Debug)]
pub(crate) struct Slot {
    /// Before this instant the value was certainly not older than what the store held.
    pub(crate) fetched_at: Instant,
    /// The era in which the value was read.
    pub(crate) era: u64,
    pub(crate) expires_at: Instant,
    pub(crate) version: i64,
    pub(crate) weight: u32,
    retention: Duration,
    /// An `Arc<Entry<E>>`; absent for a negative entry.
    value: Option<Arc<dyn Any + Send + Sync>>,
    /// Counts this slot while it is stored.
    held: Option<Held>,
}

impl Slot {
    /// A slot for a value, or a negative one.
    pub(crate) fn new<E: Entity>(
        value: Option<&Arc<Entry<E>>>,
        version: i64,
        key_bytes: usize,
        ttl: Duration,
        fetched_at: Instant,
        era: u64,
    ) -> Self {
        // A year is as good as for ever, and cannot overflow the clock.
        let ttl = ttl.min(TTL_MAX);
        // The value is held twice, encoded and decoded.
        let value_bytes = value.map_or(0, |entry| {
            let decoded = E::decoded_bytes(&entry.value, &entry.encoded);
            entry.encoded.len() + decoded + size_of::<Entry<E>>()
        });
        Self {
            fetched_at,
            era,
            expires_at: fetched_at + ttl,
            version,
            weight: u32::try_from(key_bytes + value_bytes + OVERHEAD_BYTES).unwrap_or(u32::MAX),
            retention: ttl.saturating_mul(RETENTION_FACTOR),
            value: value
                .map(|entry| -> Arc<dyn Any + Send + Sync> { Arc::<Entry<E>>::clone(entry) }),
            held: None,
        }
    }

    /// The value; the inner `None` is a negative entry. The outer `None` cannot happen as long as
    /// entity ids are unique, and reads as a miss.
    pub(crate) fn value<E: Entity>(&self) -> Option<Option<Arc<Entry<E>>>> {
        match &self.value {
            None => Some(None),
            Some(value) => Arc::downcast(Arc::clone(value)).ok().map(Some),
        }
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.value.is_none()
    }

    /// Size of the encoded value.
    pub(crate) fn size_bytes<E: Entity>(&self) -> usize {
        self.value::<E>().flatten().map_or(0, |entry| Bytes::len(&entry.encoded))
    }
}

impl Local {
    /// Room for so many bytes of values, and for so many of keys that have no row.
    pub(crate) fn new(bytes_max: u64, negative_bytes_max: u64) -> Self {
        Self {
            entries: entries("l1", bytes_max),
            absent: entries("l1_negative", negative_bytes_max),
            fences: Fences::new(),
            hasher: RandomState::new(),
            usages: Usages::default(),
            bytes_max,
        }
    }

    /// The hash of a key, which also names its stripe.
    pub(crate) fn hash<K: Hash>(&self, entity: EntityId, key: &K) -> u64 {
        self.hasher.hash_one((entity, key))
    }

    pub(crate) fn get<K>(&self, entity: EntityId, hash: u64, key: &K) -> Option<Arc<Slot>>
    where
        K: Eq + Hash + 'static,
    {
        let probe = Probe { entity, hash, key };
        self.entries.get(&probe).or_else(|| self.absent.get(&probe))
    }

    /// To be noted before the first read of a fill.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        self.fences.generation(hash)
    }

    /// Stores a slot unless the key was invalidated since `generation` was noted or a newer
    /// version is there.
    pub(crate) fn fill<K>(
        &self,
        entity: EntityId,
        hash: u64,
        key: &K,
        generation: u64,
        mut slot: Slot,
    ) where
        K: Clone + Eq + Hash + Send + Sync + 'static,
    {
        self.fences.store_if_unchanged(hash, generation, || {
            let newer = self
                .get(entity, hash, key)
                .is_some_and(|stored| !slot.is_negative() && stored.version > slot.version);
            if !newer {
                let key = StoredKey { entity, hash, key: Arc::new(key.clone()) };
                slot.held = Some(self.usages.hold(entity, slot.weight));
                // In before out: nobody may find the key in neither.
                let (here, there) = if slot.is_negative() {
                    (&self.absent, &self.entries)
                } else {
                    (&self.entries, &self.absent)
                };
                here.insert(key.clone(), Arc::new(slot));
                there.invalidate(&key);
            }
        });
    }

    /// Removes a key, unless it has this version or a newer one, and voids all fills under way for
    /// it. Without a version it is removed in any case.
    pub(crate) fn invalidate<K>(&self, entity: EntityId, hash: u64, key: &K, version: Option<i64>)
    where
        K: Eq + Hash + 'static,
    {
        self.fences.raise(hash, || {
            let stays = version.is_some_and(|version| {
                self.get(entity, hash, key).is_some_and(|stored| stored.version >= version)
            });
            if !stays {
                self.entries.invalidate(&Probe { entity, hash, key });
                self.absent.invalidate(&Probe { entity, hash, key });
            }
        });
    }

    /// Removes everything. Fills under way may still be stored: they belong to an older era.
    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
        self.absent.invalidate_all();
    }

    /// Removes all entries of an entity, or all, and voids all fills under way; how many there
    /// were. Looks at every entry: for operators, not for requests.
    pub(crate) fn forget(&self, entity: Option<EntityId>) -> u64 {
        self.fences.raise_all();
        let mut forgotten = 0;
        for entries in [&self.entries, &self.absent] {
            for (key, _slot) in entries {
                if entity.is_none_or(|entity| key.entity == entity) {
                    entries.invalidate(key.as_ref());
                    forgotten += 1;
                }
            }
        }
        // What was removed is freed now and not at the next occasion.
        self.settle();
        forgotten
    }

    /// Bytes and entries of one entity.
    pub(crate) fn usage_of(&self, entity: EntityId) -> (u64, u64) {
        self.usages.of(entity)
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Bytes held, and entries.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let (bytes, entries) = self.negative_usage();
        (self.entries.weighted_size() + bytes, self.entries.entry_count() + entries)
    }

    /// Bytes and entries of keys that have no row.
    pub(crate) fn negative_usage(&self) -> (u64, u64) {
        (self.absent.weighted_size(), self.absent.entry_count())
    }

    /// Applies what is still queued inside moka, so that [`Local::usage`] is exact.
    pub(crate) fn settle(&self) {
        self.entries.run_pending_tasks();
        self.absent.run_pending_tasks();
    }
}

fn entries(name: &str, bytes_max: u64) -> Entries {
    Moka::builder()
        .name(name)
        .max_capacity(bytes_max)
        .weigher(|_key, slot: &Arc<Slot>| slot.weight)
        .expire_after(Retention)
        .build_with_hasher(HashIsKnown)
}

impl Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, entries) = self.usage();
        f.debug_struct("Local").field("bytes", &bytes).field("entries", &entries).finish()
    }
}

/// Frees the memory of an entry once it cannot even be served as stale.
struct Retention;

#[expect(clippy::disallowed_types, reason = "moka's trait names it; the value is not used")]
impl moka::Expiry<StoredKey, Arc<Slot>> for Retention {
    fn expire_after_create(
        &self,
        _key: &StoredKey,
        slot: &Arc<Slot>,
        _created_at: std::time::Instant,
    ) -> Option<Duration> {
        Some(slot.retention)
    }

    fn expire_after_update(
        &self,
        _key: &StoredKey,
        slot: &Arc<Slot>,
        _updated_at: std::time::Instant,
        _duration_until_expiry: Option<Duration>,
    ) -> Option<Duration> {
        Some(slot.retention)
    }
}

/// A key of any entity.
#[derive(Clone)]
struct StoredKey {
    entity: EntityId,
    hash: u64,
    key: Arc<dyn AnyKey>,
}

trait AnyKey: Send + Sync {
    fn as_any(&self) -> &dyn Any;
    fn equals(&self, other: &dyn AnyKey) -> bool;
}

impl<K: Eq + Send + Sync + 'static> AnyKey for K {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn equals(&self, other: &dyn AnyKey) -> bool {
        other.as_any().downcast_ref::<K>() == Some(self)
    }
}

impl PartialEq for StoredKey {
    fn eq(&self, other: &Self) -> bool {
        self.entity == other.entity
            && self.hash == other.hash
            && self.key.as_ref().equals(other.key.as_ref())
    }
}

impl Eq for StoredKey {}

impl Hash for StoredKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A borrowed key, so that a hit allocates nothing.
struct Probe<'a, K> {
    entity: EntityId,
    hash: u64,
    key: &'a K,
}

impl<K> Hash for Probe<'_, K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl<K: Eq + 'static> Equivalent<StoredKey> for Probe<'_, K> {
    fn equivalent(&self, stored: &StoredKey) -> bool {
        self.entity == stored.entity
            && self.hash == stored.hash
            && stored.key.as_ref().as_any().downcast_ref::<K>() == Some(self.key)
    }
}

/// The keys bring their hash along; hashing it again would gain nothing.
#[derive(Clone)]
struct HashIsKnown;

impl BuildHasher for HashIsKnown {
    type Hasher = KnownHash;

    fn build_hasher(&self) -> KnownHash {
        KnownHash(0)
    }
}

struct KnownHash(u64);

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

#[cfg(test)]
pub(crate) mod tests;
