//! A key with a seat is answered from it, and never with what L1 has given up.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::l1::local::Local;
use crate::l1::local::tests::{ENTITY, slot, slot_at, version_of};

/// Reads after which a key has a seat and is answered from it.
const MANY: u32 = 4 * FIRST;

fn fill(local: &Local, key: u64, version: i64) {
    let hash = local.hash(ENTITY, &key);
    local.fill(ENTITY, hash, &key, local.generation(hash), slot(version, 10));
}

fn read_often(local: &Local, key: u64) {
    for _ in 0..MANY {
        version_of(local, key);
    }
}

/// Of so many reads, those that were answered from a seat.
fn seated_reads(local: &Local, key: u64) -> u32 {
    let hash = local.hash(ENTITY, &key);
    let is_taken = |_: &u32| matches!(local.seats().find(ENTITY, hash), Place::Taken(_));
    u32::try_from((0..MANY).filter(is_taken).count()).expect("few")
}

/// Fails if keys get no seats, or moka hears of no read any more.
#[test]
fn a_key_that_is_read_often_is_answered_from_its_seat() {
    let local = Local::new(1 << 20, 1 << 20);
    fill(&local, 1, 5);
    assert_eq!(seated_reads(&local, 1), 0);
    read_often(&local, 1);
    assert_eq!(seated_reads(&local, 1), MANY - MANY / EVERY);
}

/// Fails if a seat is not emptied by whatever removes or replaces its slot.
#[test]
fn a_seat_has_nothing_that_was_given_up() {
    let local = Local::new(1 << 20, 1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    let seat = |version| {
        fill(&local, 1, version);
        read_often(&local, 1);
        assert!(seated_reads(&local, 1) > 0);
        assert_eq!(version_of(&local, 1), Some(version));
    };
    seat(1);
    local.invalidate(ENTITY, hash, &1_u64, Some(2));
    (0..MANY).for_each(|_| assert_eq!(version_of(&local, 1), None, "invalidated"));
    seat(2);
    fill(&local, 1, 3);
    (0..MANY).for_each(|_| assert_eq!(version_of(&local, 1), Some(3), "replaced"));
    local.invalidate(ENTITY, hash, &1_u64, Some(3));
    assert_eq!(version_of(&local, 1), Some(3), "it contains the change");
    assert_eq!(local.forget(Some(ENTITY)), 1);
    (0..MANY).for_each(|_| assert_eq!(version_of(&local, 1), None, "forgotten"));
    seat(4);
    local.clear();
    (0..MANY).for_each(|_| assert_eq!(version_of(&local, 1), None, "cleared"));
    seat(5);
    let absent = slot_at(Instant::now(), Duration::from_secs(3600), 1);
    local.fill(ENTITY, hash, &1_u64, local.generation(hash), absent);
    let is_negative = |_| local.get(ENTITY, hash, &1_u64).is_some_and(|slot| slot.is_negative());
    assert!((0..MANY).all(is_negative), "deleted");
    assert!(local.get(ENTITY, hash, &2_u64).is_none(), "another key, even with the same hash");
}

/// Fails if a seat keeps a slot that moka has let go: then L1 has no bound.
#[test]
fn a_seat_holds_no_memory() {
    let local = Local::new(64 << 10, 1 << 20);
    for key in 0..2_000 {
        fill(&local, key, 1);
        read_often(&local, key);
    }
    // moka evicts in portions, and frees when no other thread of the process can be reading.
    let limit = 64 << 10;
    for _ in 0..1_000 {
        local.settle();
        if local.usage_of(ENTITY).0 <= limit {
            break;
        }
        std::thread::yield_now();
    }
    let (bytes, entries) = local.usage_of(ENTITY);
    let each = u64::from(slot(1, 10).weight);
    assert!(bytes <= limit, "{bytes} bytes of {entries} entries");
    assert_eq!(bytes, entries * each);
}

/// Fails if a seat is taken outside the lock of its key's stripe.
#[test]
fn no_read_finds_what_was_invalidated_before_it() {
    const VERSIONS: i64 = 20_000;
    let local = Local::new(1 << 20, 1 << 20);
    let hash = local.hash(ENTITY, &1_u64);
    let valid = AtomicI64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while valid.load(SeqCst) < VERSIONS {
                    let at_least = valid.load(SeqCst);
                    let found = version_of(&local, 1);
                    assert!(found.is_none_or(|found| found >= at_least), "{found:?}, {at_least}");
                }
            });
        }
        for version in 1..=VERSIONS {
            let before = local.generation(hash);
            local.fill(ENTITY, hash, &1_u64, before, slot(version, 10));
            for _ in 0..8 {
                version_of(&local, 1);
            }
            local.invalidate(ENTITY, hash, &1_u64, Some(version + 1));
            valid.store(version + 1, SeqCst);
            // More than moka is told of, so that a seat that was taken too late is found.
            for _ in 0..2 * FIRST {
                assert_eq!(version_of(&local, 1), None, "invalidated");
            }
        }
    });
}
