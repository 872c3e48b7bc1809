//! L1: the fence, the bound in bytes, expiry.

use moka::Expiry;

use super::*;
use crate::{ChangedRow, DecodeError};

const HOUR: Duration = Duration::from_secs(3600);
const ENTITY: EntityId = EntityId(1);

#[derive(Debug)]
struct Text;

impl Entity for Text {
    type Key = u64;
    type Value = ();
    const NAME: &'static str = "text";
    const SOURCE: &'static str = "text";
    const SCHEMA: u16 = 1;

    fn key_text(key: &u64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        row.key.parse().ok()
    }

    fn version((): &()) -> i64 {
        0
    }

    fn encode((): &()) -> Bytes {
        Bytes::new()
    }

    fn decode(_bytes: Bytes) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// A slot for the tests of trust.
pub(crate) fn slot_at(fetched_at: Instant, ttl: Duration, era: u64) -> Slot {
    Slot::new::<Text>(None, 0, 8, ttl, fetched_at, era)
}

fn slot(version: i64, bytes: usize) -> Slot {
    let encoded = Bytes::from(vec![0; bytes]);
    let entry = Arc::new(Entry::<Text> { value: (), encoded, version });
    Slot::new::<Text>(Some(&entry), version, 8, HOUR, Instant::now(), 1)
}

fn version_of(local: &Local, key: u64) -> Option<i64> {
    local.get(ENTITY, local.hash(ENTITY, &key), &key).map(|slot| slot.version)
}

/// Fails without the comparison of generations, which is what makes a late fill harmless.
#[test]
fn a_fill_that_began_before_an_invalidation_is_dropped() {
    let local = Local::new(1 << 20);
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
    let local = Local::new(1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    for (version, expected) in [(5, 5), (4, 5), (6, 6)] {
        local.fill(ENTITY, hash, &1_u64, local.generation(hash), slot(version, 10));
        assert_eq!(version_of(&local, 1), Some(expected));
    }
}

#[test]
fn entities_do_not_see_each_other() {
    let local = Local::new(1 << 20);
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
    let local = Local::new(MAX);
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

#[test]
fn memory_is_freed_when_an_entry_cannot_even_be_stale() {
    let local = Local::new(1 << 20);
    let key = StoredKey { entity: ENTITY, hash: 1, key: Arc::new(1_u64) };
    let slot = Arc::new(slot(1, 10));
    let now = Instant::now().into_std();
    assert_eq!(Retention.expire_after_create(&key, &slot, now), Some(HOUR * 2));
    assert_eq!(Retention.expire_after_update(&key, &slot, now, Some(HOUR)), Some(HOUR * 2));
    drop(local);
}
