//! L1 under many threads for a while: what it counts is what it holds, and both stay within the
//! limit. (A library that loses count of weights under concurrent updates would grow without end.)

use std::sync::Arc;

use super::tests::slot_of;
use super::*;

const BYTES_MAX: u64 = 4 << 20;
const NEGATIVE_BYTES_MAX: u64 = 256 << 10;
const THREADS: u64 = 4;
const ROUNDS: u64 = 60_000;
const KEYS: u64 = 20_000;
const ENTITY: EntityId = EntityId(7);

/// Says to the process that it is to run.
const CHILD: &str = "FOREBAY_TEST_SOAK";

/// Fills, updates with other sizes, invalidates and reads at random.
fn hammer(local: &Local) {
    for _ in 0..ROUNDS {
        let key = rand::random_range(0..KEYS);
        let hash = local.hash(ENTITY, &key);
        match rand::random_range(0..10) {
            0..6 => {
                let bytes = rand::random_range(0..2000);
                let generation = local.generation(hash);
                local.fill(ENTITY, hash, &key, generation, slot_of(bytes));
            }
            6..8 => local.invalidate(ENTITY, hash, &key, None),
            _ => drop(local.get(ENTITY, hash, &key)),
        }
    }
}

/// Lets moka do what it has put off, which it does in portions, until `holds`.
fn converges(local: &Local, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        let ((bytes, entries), (in_fact, held)) = (local.usage(), local.usage_of(ENTITY));
        assert!(
            Instant::now() < until,
            "{in_fact} bytes in fact, {bytes} count; {held} entries, {entries} count"
        );
        local.settle();
        // Memory is freed by those who look.
        let key = rand::random_range(0..KEYS);
        drop(local.get(ENTITY, local.hash(ENTITY, &key), &key));
    }
}

/// Not a test by itself: what the process does. In one of its own, because freed memory waits for all
/// threads of a process that look into any of moka's caches, also for those of other tests.
#[test]
fn the_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let local = Arc::new(Local::new(BYTES_MAX, NEGATIVE_BYTES_MAX));
    for round in 0..4 {
        std::thread::scope(|threads| {
            for _ in 0..THREADS {
                threads.spawn(|| hammer(&local));
            }
        });
        let in_use = local.usage().0;
        assert!(in_use > BYTES_MAX / 2, "it is in use: {in_use} bytes, round {round}");
        // A little more is in memory than counts: what is about to be freed.
        let (room, in_fact) = (BYTES_MAX + NEGATIVE_BYTES_MAX, || local.usage_of(ENTITY).0);
        converges(&local, || local.usage().0 <= room && in_fact() <= room * 5 / 4);
    }
    local.forget(None);
    converges(&local, || local.usage() == (0, 0));
}

/// Fails if an entry counts for less than it weighs.
#[test]
fn whatever_is_stored_and_removed_at_once_the_count_is_right_and_bounded() {
    let process = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "l1::local::soak::the_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&process.stderr);
    assert!(process.status.success(), "{said}");
}
