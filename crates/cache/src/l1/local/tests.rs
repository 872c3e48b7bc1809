//! L1: the fence, the bound in bytes, expiry.

use moka::Expiry;

use super::*;
use crate::rig::{HOUR, Number};

pub(crate) const ENTITY: EntityId = EntityId(1);

/// A slot for the tests of trust.
pub(crate) fn slot_at(fetched_at: Instant, ttl: Duration, era: u64) -> Slot {
    Slot::new::<Number>(None, 0, 8, ttl, fetched_at, era)
}

/// A slot for the soak: nothing, or a value of some bytes.
pub(super) fn slot_of(bytes: usize) -> Slot {
    if bytes < 200 { slot_at(Instant::now(), HOUR, 1) } else { slot(1, bytes) }
}

pub(crate) fn slot(version: i64, bytes: usize) -> Slot {
    let encoded = Bytes::from(vec![0; bytes]);
    let entry = Arc::new(Entry::<Number> { value: (), encoded, version });
    Slot::new::<Number>(Some(&entry), version, 8, HOUR, Instant::now(), 1)
}

pub(crate) fn version_of(local: &Local, key: u64) -> Option<i64> {
    local.get(ENTITY, local.hash(ENTITY, &key), &key).map(|slot| slot.version)
}

/// Fails without the comparison of generations, which is what makes a late fill harmless.
#[test]
fn a_fill_that_began_before_an_invalidation_is_dropped() {
    let local = Local::new(1 << 20, 1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    let before = local.generation(hash);
    local.invalidate(ENTITY, hash, &1_u64, Some(2));
    local.fill(ENTITY, hash, &1_u64, before, slot(1, 10));
    assert_eq!(version_of(&local, 1), None);
    local.fill(ENTITY, hash, &1_u64, local.generation(hash), slot(2, 10));
    assert_eq!(version_of(&local, 1), Some(2));
    local.invalidate(ENTITY, hash, &1_u64, Some(2));
    assert_eq!(version_of(&local, 1), Some(2), "it contains the change");
    local.invalidate(ENTITY, hash, &1_u64, Some(3));
    assert_eq!(version_of(&local, 1), None);
    local.fill(ENTITY, hash, &1_u64, local.generation(hash), slot(3, 10));
    local.invalidate(ENTITY, hash, &1_u64, None);
    assert_eq!(version_of(&local, 1), None);
}

#[test]
fn an_older_version_does_not_replace_a_newer_one() {
    let local = Local::new(1 << 20, 1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    for (version, expected) in [(5, 5), (4, 5), (6, 6)] {
        local.fill(ENTITY, hash, &1_u64, local.generation(hash), slot(version, 10));
        assert_eq!(version_of(&local, 1), Some(expected));
    }
}

#[test]
fn entities_do_not_see_each_other() {
    let local = Local::new(1 << 20, 1 << 20);
    let (one, two) = (EntityId(1), EntityId(2));
    let hash = local.hash(one, &1_u64);
    local.fill(one, hash, &1_u64, local.generation(hash), slot(1, 10));
    assert!(local.get(one, hash, &1_u64).is_some());
    assert!(local.get(two, hash, &1_u64).is_none(), "another entity, even with the same hash");
    assert!(local.get(one, hash, &2_u64).is_none(), "another key, even with the same hash");
    assert!(local.get(one, hash, &1_u32).is_none(), "another type, even with the same hash");
}

/// Fails if the weigher counts entries, or the value without its overhead.
#[test]
fn the_bound_holds_in_bytes() {
    const MAX: u64 = 1 << 20;
    let local = Local::new(MAX, 1 << 20);
    for key in 0..20_000_u64 {
        let hash = local.hash(ENTITY, &key);
        local.fill(ENTITY, hash, &key, local.generation(hash), slot(1, 1000));
    }
    local.settle();
    let (bytes, entries) = local.usage();
    let each = u64::from(slot(1, 1000).weight);
    assert!(each >= 2 * 1000 + 8 + 150, "{each}");
    assert!(bytes <= MAX, "{bytes}");
    assert_eq!(bytes, entries * each);
    assert!(entries > MAX / each / 2, "the bound is used: {entries}");
}

/// Fails if keys without a row share the room of the values.
#[test]
fn a_flood_of_unknown_keys_pushes_no_value_out() {
    const ROOM: u64 = 128 << 10;
    let local = Local::new(1 << 20, ROOM);
    for key in 0..100_u64 {
        let hash = local.hash(ENTITY, &key);
        local.fill(ENTITY, hash, &key, local.generation(hash), slot(1, 1000));
    }
    local.settle();
    // Each unknown key is asked for twice, and no value is: as the policy of eviction sees it,
    // every one of them is worth more than any value.
    for key in 1000..20_000_u64 {
        let hash = local.hash(ENTITY, &key);
        let absent = slot_at(Instant::now(), HOUR, 1);
        local.fill(ENTITY, hash, &key, local.generation(hash), absent);
        drop(local.get(ENTITY, hash, &key));
        drop(local.get(ENTITY, hash, &key));
    }
    local.settle();
    let (bytes, entries) = local.negative_usage();
    let left = (0..100).filter(|key| version_of(&local, *key).is_some()).count();
    assert_eq!(left, 100, "values that survive the flood");
    assert!(bytes <= ROOM && entries > 100, "{bytes} bytes of {entries} unknown keys");
}

/// Fails if a key can be in both places, or in none.
#[test]
fn a_key_moves_when_its_row_comes_and_goes() {
    let local = Local::new(1 << 20, 1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    let is_negative = || local.get(ENTITY, hash, &1_u64).map(|slot| slot.is_negative());
    for is_absent in [true, false, true, false] {
        let next = if is_absent { slot_at(Instant::now(), HOUR, 1) } else { slot(1, 10) };
        local.fill(ENTITY, hash, &1_u64, local.generation(hash), next);
        assert_eq!(is_negative(), Some(is_absent));
        local.settle();
        assert_eq!(local.usage().1, 1);
    }
    local.fill(ENTITY, hash, &1_u64, local.generation(hash), slot_at(Instant::now(), HOUR, 1));
    local.invalidate(ENTITY, hash, &1_u64, None);
    assert_eq!(is_negative(), None);
}

#[test]
fn memory_is_freed_when_an_entry_cannot_even_be_stale() {
    let local = Local::new(1 << 20, 1 << 20);
    let key = StoredKey::new(ENTITY, 1, &1_u64);
    let slot = Arc::new(slot(1, 10));
    let now = Instant::now().into_std();
    assert_eq!(Retention.expire_after_create(&key, &slot, now), Some(HOUR * 2));
    assert_eq!(Retention.expire_after_update(&key, &slot, now, Some(HOUR)), Some(HOUR * 2));
    drop(local);
}

/// Fails if a full L1 takes in whatever comes by, or never takes in what is wanted again.
#[test]
fn a_full_l1_takes_in_from_l2_what_is_wanted_again() {
    let local = Local::new(100_000, 100_000);
    let weight = Some(slot(1, 1000).weight);
    let is_worth = |key: u64| local.is_worth(local.hash(ENTITY, &key), weight);
    assert!(is_worth(1), "there is room");
    for key in 0..200_u64 {
        let hash = local.hash(ENTITY, &key);
        local.fill(ENTITY, hash, &key, local.generation(hash), slot(1, 1000));
    }
    local.settle();
    assert!(!is_worth(1_000), "seen for the first time");
    assert!(is_worth(1_000), "seen again");
    assert!(local.is_worth(local.hash(ENTITY, &2_000_u64), None), "it has room of its own");
}
