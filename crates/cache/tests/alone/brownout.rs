//! Redis hangs for two seconds under load.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use forebay_cache::Outcome;
use tokio::time::Instant;

use crate::burst::operations;
use crate::{BOUNDED, LOADS_PEAK, Rig, report};

/// The default of `cache.l2_timeout`.
const L2_TIMEOUT: Duration = Duration::from_millis(30);
/// How long Redis hangs.
const HANG: Duration = Duration::from_secs(2);
/// Keys that L1 holds.
const HOT: i64 = 100;
/// Callers that ask for keys that nobody asked for before.
const COLD_CALLERS: i64 = 64;

/// Reads until told otherwise; how long each took.
async fn read(
    rig: &Rig,
    mut key: impl FnMut() -> i64,
    expected: &[Outcome],
    until: Instant,
) -> Vec<Duration> {
    let mut took = Vec::new();
    while Instant::now() < until {
        let started_at = Instant::now();
        let found = rig.numbers.get(&key(), BOUNDED).await.expect("no read fails");
        took.push(started_at.elapsed());
        assert!(expected.contains(&found.outcome), "{}", found.outcome);
        // A hit in L1 never waits, and the others must get their turn.
        tokio::task::yield_now().await;
    }
    took
}

fn p99(mut took: Vec<Duration>) -> (usize, Duration) {
    took.sort_unstable();
    (took.len(), took[(took.len() - 1) * 99 / 100])
}

/// Fails without the breaker (Redis would be asked some hundred times while it hangs, and each of
/// the cold reads wait for that), or if a hit in L1 asked Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_costs_no_read_and_is_hardly_asked() {
    let rig = Rig::start(L2_TIMEOUT).await;
    for key in 0..HOT {
        rig.numbers.get(&key, BOUNDED).await.expect("fills l1");
    }
    LOADS_PEAK.store(0, SeqCst);
    for (phase, is_hanging) in [("redis answers", false), ("redis hangs", true)] {
        let first = if is_hanging { 1_000_000_000 } else { 1_000_000 };
        if is_hanging {
            rig.server.stop();
        }
        let before = operations();
        let until = Instant::now() + HANG;
        let mut hot = (0..HOT).cycle();
        let hot = read(&rig, || hot.next().expect("endless"), &[Outcome::HitL1], until);
        let cold = futures_util::future::join_all((0..COLD_CALLERS).map(|caller| {
            let mut next = first + caller;
            let key = move || {
                next += COLD_CALLERS;
                next
            };
            read(&rig, key, &[Outcome::Loaded], until)
        }));
        let (hot, cold) = futures_util::join!(hot, cold);
        let after = operations();
        if is_hanging {
            rig.server.cont();
        }
        let (hot, hot_p99) = p99(hot);
        let (cold, cold_p99) = p99(cold.into_iter().flatten().collect());
        let asked = after.mget - before.mget;
        report(&format!(
            "{phase}: {hot} hits, p99 {hot_p99:?}; {cold} cold reads, p99 {cold_p99:?}; {asked} \
             reads of Redis, {} SQL, at most {} at once",
            after.sql - before.sql,
            LOADS_PEAK.load(SeqCst)
        ));
        assert!(hot > 100 && cold > 100, "{hot} and {cold}");
        assert!(LOADS_PEAK.load(SeqCst) <= 8, "{}", LOADS_PEAK.load(SeqCst));
        if is_hanging {
            assert!(asked <= 30, "redis was asked {asked} times while it hung");
        }
    }
}
