//! L1: entries of all entities in the process's memory, under one bound in bytes.

use std::any::Any;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use moka::sync::Cache as Moka;
use tokio::time::Instant;

use crate::l1::absences::{Absence, Absences};
use crate::l1::fence::Fences;
use crate::l1::hot::{Hot, Place};
use crate::l1::key::{HashIsKnown, Probe, StoredKey};
use crate::l1::sightings::Sightings;
use crate::l1::usage::{Held, Usages};
use crate::{Entity, Entry};

/// What an entry costs beyond its key and its value: about 350 bytes are moka's (place in the map,
/// counters, its nodes in the queues and the timer wheel), 350 ours (slot, key, entry, the counts of
/// both buffers), and the rest is what the allocator rounds up in a dozen small allocations. Measured:
/// a process with 53,598 entries of twice 508 bytes had grown by 95 MiB, 850 bytes more for each.
const OVERHEAD_BYTES: usize = 800;
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
    absences: Absences,
    hot: Hot,
    sightings: Sightings,
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
    /// What the entry of L2 says of when it was filled from which, or with which, this one was.
    pub(crate) filled_at_ms: u64,
    pub(crate) weight: u32,
    retention: Duration,
    /// An `Arc<Entry<E>>`; absent for a negative entry.
    value: Option<Arc<dyn Any + Send + Sync>>,
    /// The key under which it is stored.
    key: Option<StoredKey>,
    /// Counts this slot while it is stored.
    held: Option<Held>,
    /// Counts it once more if it is negative.
    absence: Option<Absence>,
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
        Self {
            fetched_at,
            era,
            expires_at: fetched_at + ttl,
            version,
            filled_at_ms: 0,
            weight: Self::weight_of(value, key_bytes),
            retention: ttl.saturating_mul(RETENTION_FACTOR),
            value: value
                .map(|entry| -> Arc<dyn Any + Send + Sync> { Arc::<Entry<E>>::clone(entry) }),
            key: None,
            held: None,
            absence: None,
        }
    }

    /// Bytes that a slot of this value counts for.
    pub(crate) fn weight_of<E: Entity>(value: Option<&Arc<Entry<E>>>, key_bytes: usize) -> u32 {
        // The value is held twice, encoded and decoded.
        let value_bytes = value.map_or(0, |entry| {
            let decoded = E::decoded_bytes(&entry.value, &entry.encoded);
            entry.encoded.len() + decoded + size_of::<Entry<E>>()
        });
        u32::try_from(key_bytes + value_bytes + OVERHEAD_BYTES).unwrap_or(u32::MAX)
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

    /// The key under which it is stored.
    pub(crate) fn key<K: 'static>(&self) -> Option<&K> {
        self.key.as_ref()?.key()
    }

    fn is_of<K: Eq + 'static>(&self, key: &K) -> bool {
        self.key.as_ref().is_some_and(|own| own.is(key))
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
            absences: Absences::new(),
            hot: Hot::new(),
            sightings: Sightings::new(bytes_max),
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
        let takes_seat = match self.hot.find(entity, hash) {
            Place::Taken(slot) if slot.is_of(key) => return Some(slot),
            Place::Taken(_) | Place::Ask => false,
            Place::AskAndSeat => true,
        };
        let found = self.stored(Probe { entity, hash, key });
        if takes_seat && found.is_some() {
            // Again, under the lock: meanwhile it may have been removed.
            self.fences.hold(hash, || {
                if let Some(slot) = self.stored(Probe { entity, hash, key }) {
                    self.hot.seat(entity, hash, &slot);
                }
            });
        }
        found
    }

    fn stored<K: Eq + 'static>(&self, probe: Probe<'_, K>) -> Option<Arc<Slot>> {
        let found = self.entries.get(&probe);
        if found.is_none() && self.absences.may_hold(probe.hash) {
            return self.absent.get(&probe);
        }
        found
    }

    /// The version of what is stored. To moka this is no read, if there is nothing.
    fn version<K: Eq + 'static>(&self, probe: Probe<'_, K>) -> Option<i64> {
        let may_be = self.entries.contains_key(&probe) || self.absences.may_hold(probe.hash);
        if may_be { self.stored(probe).map(|slot| slot.version) } else { None }
    }

    /// To be noted before the first read of a fill.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        self.fences.generation(hash)
    }

    /// Whether it is worth while to store what L2 has of a key, a value of this weight or none: there
    /// is room for it, or the key is wanted again.
    pub(crate) fn is_worth(&self, hash: u64, weight: Option<u32>) -> bool {
        let has_seen = self.sightings.has_seen(hash);
        let has_room = weight.is_none_or(|weight| {
            self.entries.weighted_size().saturating_add(u64::from(weight)) <= self.bytes_max
        });
        has_seen || has_room
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
            let newer = !slot.is_negative()
                && self
                    .version(Probe { entity, hash, key })
                    .is_some_and(|version| version > slot.version);
            if newer {
                return;
            }
            let stored_key = StoredKey::new(entity, hash, key);
            slot.key = Some(stored_key.clone());
            slot.held = Some(self.usages.hold(entity, slot.weight));
            let is_negative = slot.is_negative();
            slot.absence = is_negative.then(|| self.absences.hold(hash));
            let slot = Arc::new(slot);
            // In before out: nobody may find the key in neither.
            if is_negative {
                self.absent.insert(stored_key, Arc::clone(&slot));
                self.entries.invalidate(&Probe { entity, hash, key });
            } else {
                self.entries.insert(stored_key, Arc::clone(&slot));
                self.remove_absent(Probe { entity, hash, key });
            }
            self.hot.replace(entity, hash, Some(&slot));
        });
    }

    fn remove_absent<K: Eq + 'static>(&self, probe: Probe<'_, K>) {
        if self.absences.may_hold(probe.hash) {
            self.absent.invalidate(&probe);
        }
    }

    /// Removes a key, unless it has this version or a newer one, and voids all fills under way for
    /// it. Without a version it is removed in any case.
    pub(crate) fn invalidate<K>(&self, entity: EntityId, hash: u64, key: &K, version: Option<i64>)
    where
        K: Eq + Hash + 'static,
    {
        self.fences.raise(hash, || {
            let stays = version.is_some_and(|version| {
                let stored = self.version(Probe { entity, hash, key });
                stored.is_some_and(|stored| stored >= version)
            });
            if !stays {
                self.entries.invalidate(&Probe { entity, hash, key });
                self.remove_absent(Probe { entity, hash, key });
                self.hot.replace(entity, hash, None);
            }
        });
    }

    /// Removes everything. Fills under way may still be stored: they belong to an older era.
    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
        self.absent.invalidate_all();
        self.empty_seats();
    }

    /// After moka's entries were removed. Whoever takes a seat has either found them before, and is
    /// waited for, or finds nothing.
    fn empty_seats(&self) {
        self.fences.pass_all();
        self.hot.clear();
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
        self.empty_seats();
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

    /// What is read most.
    pub(crate) fn seats(&self) -> &Hot {
        &self.hot
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

#[cfg(test)]
mod soak;
#[cfg(test)]
pub(crate) mod tests;
