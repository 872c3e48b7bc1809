//! Which reads refresh, and what their callers notice. Time is tokio's, so the tests move it; no
//! server is reached, and L1 is filled from the loader alone.

use std::sync::atomic::Ordering::SeqCst;

use super::*;
use crate::Consistency;
use crate::rig::{HOUR, Numbers, TTL, cache, config};

const MS: Duration = Duration::from_millis(1);
const BOUNDED: Consistency = Consistency::Bounded(HOUR);

/// Reads one key every millisecond while its entry expires a hundred times; the reads that had to
/// wait, and the loads.
async fn read_all_the_time(refresh_beta: f64) -> (usize, usize) {
    let numbers = Numbers::default();
    let cache = cache(&config(refresh_beta), &numbers);
    let mut waited = 0;
    let until = Instant::now() + 100 * TTL;
    while Instant::now() < until {
        let began = Instant::now();
        cache.get(&1, BOUNDED).await.expect("answered");
        waited += usize::from(began.elapsed() > Duration::ZERO);
        tokio::time::sleep(MS).await;
    }
    (waited, numbers.loads())
}

/// Fails if hot keys are not refreshed, or far too often.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the figures of a test are for its reader")]
async fn a_key_that_is_read_all_the_time_costs_no_caller_a_load() {
    let (waited, loads) = read_all_the_time(1.0).await;
    println!("100 times to live, read every ms: {waited} reads waited, {loads} loads");
    assert_eq!(waited, 1, "the first one");
    assert!((100..200).contains(&loads), "{loads}");
    let (waited, loads) = read_all_the_time(0.0).await;
    println!("without early refresh: {waited} reads waited, {loads} loads");
    assert_eq!(waited, loads, "every load has somebody who waits for it");
    assert!(waited >= 100, "{waited}");
}

/// Fails if a refresh that fails is begun again and again, or if its caller hears of it.
#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_is_left_alone_for_a_while() {
    let numbers = Numbers::default();
    let cache = cache(&config(f64::from(u32::MAX)), &numbers);
    cache.get(&1, BOUNDED).await.expect("answered");
    numbers.0.fails.store(true, SeqCst);
    let before = numbers.loads();
    for _ in 0..100 {
        let lookup = cache.get(&1, BOUNDED).await.expect("still there");
        assert_eq!(lookup.outcome, Outcome::HitL1);
        tokio::time::sleep(MS).await;
    }
    assert_eq!(numbers.loads() - before, 1);
}

/// Fails without the bound of refreshes under way.
#[tokio::test(start_paused = true)]
async fn many_refreshes_at_once_are_bounded() {
    let numbers = Numbers::default();
    let cache = cache(&config(f64::from(u32::MAX)), &numbers);
    let keys: Vec<u64> = (0..10 * 64).collect();
    cache.get_many(&keys, BOUNDED).await.expect("answered");
    let lookups = cache.get_many(&keys, BOUNDED).await.expect("answered");
    assert!(lookups.iter().all(|lookup| lookup.outcome == Outcome::HitL1));
    assert_eq!(cache.inner().flights.under_way(), UNDER_WAY_MAX);
    tokio::time::sleep(HOUR).await;
    assert_eq!(cache.inner().refreshes.under_way.available_permits(), UNDER_WAY_MAX);
}

/// Fails without the jitter, and if it makes an entry live longer than it may.
#[tokio::test(start_paused = true)]
#[expect(clippy::print_stdout, reason = "the figures of a test are for its reader")]
async fn entries_filled_together_expire_apart_and_are_loaded_within_the_bulkhead() {
    const KEYS: u64 = 10_000;
    let numbers = Numbers::default();
    let cache = cache(&config(0.0), &numbers);
    let keys: Vec<u64> = (0..KEYS).collect();
    cache.get_many(&keys, BOUNDED).await.expect("answered");
    let inner = cache.inner();
    let now = Instant::now();
    let left: Vec<_> = keys
        .iter()
        .map(|key| {
            let slot = inner.local.get(inner.id, inner.local.hash(inner.id, key), key);
            slot.expect("filled").expires_at.saturating_duration_since(now)
        })
        .collect();
    let (first, last) = (left.iter().min().expect("some"), left.iter().max().expect("some"));
    println!("{KEYS} entries filled together expire {first:?} to {last:?} later, of {TTL:?}");
    assert!(*last <= TTL && *last - *first >= TTL.mul_f64(0.15), "{first:?} to {last:?}");
    // All of them expire, and everybody wants them at once.
    tokio::time::sleep(TTL).await;
    let reads = keys.chunks(10).map(|keys| cache.get_many(keys, BOUNDED));
    for read in futures_util::future::join_all(reads).await {
        assert!(read.expect("answered").iter().all(|it| it.outcome == Outcome::Loaded));
    }
    let peak = numbers.0.peak.load(SeqCst);
    println!("they cost {} loads, {peak} at once", numbers.loads());
    assert!(peak <= 4, "{peak}");
}

/// Fails if the chance does not grow towards the end, or if none is switched on for ever.
#[test]
fn the_chance_grows_as_the_end_comes_near() {
    let load = 10 * MS;
    // exp(-left / load) of all draws.
    assert!(is_due(10 * MS, load, 1.0, 0.36) && !is_due(10 * MS, load, 1.0, 0.37));
    assert!(is_due(50 * MS, load, 1.0, 0.006) && !is_due(50 * MS, load, 1.0, 0.007));
    assert!(is_due(20 * MS, load, 2.0, 0.36), "twice as early");
    assert!(is_due(HOUR, load, 1.0, 0.0), "the luckiest of all");
    for luck in [0.0, 1e-16, 0.5, 0.999] {
        assert!(!is_due(Duration::ZERO, load, 0.0, luck), "never");
    }
    assert_eq!((loads_before(0.0), loads_before(1.0), loads_before(1e300)), (0, 37, u32::MAX));
    let least = f64::EPSILON / 2.0;
    assert!(-least.ln() < LOGARITHM_MAX);
}
