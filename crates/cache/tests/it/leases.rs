//! One process loads for all, and nobody waits long for one that cannot.

use std::time::Duration;

use forebay_config::CacheConfig;
use forebay_testkit::{redis_prefix, redis_url};
use tokio::time::Instant;

use crate::store::Store;
use crate::{BOUNDED, Replica, cache_config, entity_config, report};

const WAIT: Duration = Duration::from_millis(50);
/// Longer than any test: what is answered sooner did not wait for it.
const FOREVER: Duration = Duration::from_secs(60);

/// Replicas with loaders of their own and one L2, whose leases live for ever.
async fn replicas<const N: usize>(store: &Store, lease_wait: Duration) -> [(Replica, Store); N] {
    let config = CacheConfig { lease_ttl: FOREVER, lease_wait, ..cache_config() };
    let prefix = redis_prefix();
    let mut replicas = Vec::new();
    for _ in 0..N {
        let store = store.another();
        let replica = Replica::with(&redis_url(), &prefix, &store, &config, &entity_config());
        replicas.push((replica.l2_in_use(&store).await, store));
    }
    replicas.try_into().unwrap_or_else(|_| unreachable!("N were made"))
}

/// Fails without the turns: the others wait for as long as the lease lives. Fails if only the first
/// who had the lease may fill: then the third has to load as well.
#[tokio::test]
async fn a_process_whose_loads_hang_holds_the_others_up_for_a_moment() {
    let store = Store::new().await;
    let mut last = 0;
    for key in 1..=20 {
        last = store.put(key, "row").await;
    }
    let [(a, of_a), (b, of_b), (c, of_c)] = replicas(&store, WAIT).await;
    of_a.hold();
    let rows = a.rows.clone();
    let hangs = tokio::spawn(async move { rows.get_many(&[19, 20], BOUNDED).await });
    of_a.held().await;
    let (loads, keys) = (of_b.loads(), of_b.keys_loaded());
    let began = Instant::now();
    let all: Vec<u64> = (1..=20).collect();
    let answer = tokio::time::timeout(FOREVER / 4, b.rows.get_many(&all, BOUNDED)).await;
    let took = began.elapsed();
    answer.expect("the wait was short").expect("answered");
    let loads = (of_b.loads() - loads, of_b.keys_loaded() - keys);
    report(&format!("20 keys, 2 of them held by a process that hangs: {took:?}, {loads:?} loads"));
    assert_eq!(loads, (2, 20), "those that nobody had, then those that were held");
    b.l2_version(20, last).await;
    let loads = of_c.loads();
    c.rows.get_many(&all, BOUNDED).await.expect("answered");
    assert_eq!(of_c.loads(), loads, "whoever had the second turn filled for all");
    // The first one is not turned away either, only late.
    of_a.release();
    hangs.await.expect("task").expect("answered");
}

/// Fails if a batch waits as a whole for the one key that somebody else is about to fill.
#[tokio::test]
async fn a_held_key_holds_up_no_other_key_of_its_batch() {
    let store = Store::new().await;
    store.put(1, "held").await;
    store.put(2, "free").await;
    let [(a, of_a), (b, of_b)] = replicas(&store, FOREVER).await;
    of_a.hold();
    let rows = a.rows.clone();
    let hangs = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    of_a.held().await;
    let (rows, loads) = (b.rows.clone(), of_b.loads());
    let both = tokio::spawn(async move { rows.get_many(&[1, 2], BOUNDED).await });
    // Joins the flight of the batch.
    crate::eventually("the free key is answered", async || b.outcome(2).await == "hit_l1").await;
    assert!(!both.is_finished(), "the held one is not there yet");
    assert_eq!(of_b.loads() - loads, 1);
    of_a.release();
    hangs.await.expect("task").expect("answered");
    let both = both.await.expect("task").expect("answered");
    assert_eq!(both[0].outcome.as_str(), "hit_l2", "filled by the holder");
}

/// Fails if a process takes leave to load for others although its own loads hang.
#[tokio::test]
async fn a_process_whose_loads_hang_takes_no_more_leases() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let last = store.put(2, "two").await;
    let [(a, of_a), (b, _)] = replicas(&store, WAIT).await;
    of_a.hold();
    let read = |key| {
        let rows = a.rows.clone();
        tokio::spawn(async move { rows.get(&key, BOUNDED).await })
    };
    let first = read(1);
    of_a.held().await;
    tokio::time::sleep(3 * WAIT).await;
    let second = read(2);
    of_a.held().await;
    let lease = a.redis.shared().get("cache:row:3:2:lease").await.expect("get");
    assert_eq!(lease, None, "somebody else may load it at once");
    assert_eq!(b.outcome(2).await, "loaded");
    b.l2_version(2, last).await;
    for hangs in [first, second] {
        of_a.release();
        hangs.await.expect("task").expect("answered");
    }
}

/// Fails if a lease is kept although the load for which it was given has failed.
#[tokio::test]
async fn a_failed_load_gives_its_lease_back() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [(a, of_a), (b, _)] = replicas(&store, FOREVER).await;
    for fails in [Store::fail, Store::panic] {
        fails(&of_a, true);
        assert!(a.rows.get(&1, BOUNDED).await.is_err());
        fails(&of_a, false);
        let lease = async || a.redis.shared().get("cache:row:3:1:lease").await.expect("get");
        crate::eventually("it is free", async || lease().await.is_none()).await;
    }
    assert_eq!(b.get(1).await.as_deref(), Some("one"));
}
