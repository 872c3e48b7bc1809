//! What is read most is in the memory of a process before it serves.

use std::time::Duration;

use forebay_cache::WarmUpEnd;
use forebay_config::CacheConfig;
use forebay_pooling::Deadline;
use forebay_testkit::{PrivateRedis, redis_prefix, redis_url};
use tokio::time::Instant;

use crate::store::Store;
use crate::{BOUNDED, Replica, cache_config, entity_config, report};

/// More reads than a key needs to count as hot.
const OFTEN: usize = 200;
const LONG: Duration = Duration::from_secs(30);

fn config(warm_up_keys: usize) -> CacheConfig {
    CacheConfig { warm_up_keys, warm_up_timeout: LONG, ..cache_config() }
}

fn replica(prefix: &str, store: &Store, warm_up_keys: usize) -> (Replica, Store) {
    let store = store.another();
    let config = config(warm_up_keys);
    (Replica::with(&redis_url(), prefix, &store, &config, &entity_config()), store)
}

/// Rows of which some were read often by a process that has ended.
async fn read_before(store: &Store, prefix: &str, warm_up_keys: usize) -> Replica {
    let mut last = 0;
    for key in 0..40 {
        last = store.put(key, "row").await;
    }
    let (before, _) = replica(prefix, store, warm_up_keys);
    let before = before.l2_in_use(store).await;
    let all: Vec<u64> = (0..40).collect();
    before.rows.get_many(&all, BOUNDED).await.expect("answered");
    for _ in 0..OFTEN {
        before.rows.get_many(&all[..20], BOUNDED).await.expect("answered");
    }
    for _ in 0..10 * OFTEN {
        before.rows.get_many(&all[..5], BOUNDED).await.expect("answered");
    }
    before.l2_version(39, last).await;
    assert!(before.cache.drain(Deadline::after(LONG)).await);
    before
}

/// Fails if a process that starts does not read what was read often, or reads it from the store.
#[tokio::test]
async fn a_process_that_starts_has_what_is_read_often_in_memory() {
    let (store, prefix) = (Store::new().await, redis_prefix());
    let before = read_before(&store, &prefix, 1000).await;
    let (warm, of_warm) = replica(&prefix, &store, 1000);
    let warmed = warm.cache.warm_up().await;
    report(&format!("a process that starts: {warmed:?}, {} loads", of_warm.loads()));
    assert_eq!((warmed.end, warmed.keys, warmed.loaded), (WarmUpEnd::Complete, 20, 0));
    for key in 0..20 {
        assert_eq!(warm.outcome(key).await, "hit_l1", "the first read of key {key}");
    }
    assert_eq!(warm.outcome(30).await, "hit_l2", "that one was read once");
    let (cold, _) = replica(&prefix, &store, 0);
    let cold = cold.l2_in_use(&store).await;
    let off = cold.cache.warm_up().await;
    assert_eq!((off.end, off.keys), (WarmUpEnd::Off, 0));
    assert_eq!(cold.outcome(0).await, "hit_l2");
    // What Redis has lost meanwhile is loaded, in one go.
    let names: Vec<_> = (0..20).map(|key| format!("cache:row:3:{key}")).collect();
    before.redis.shared().del(&names).await.expect("del");
    let (late, of_late) = replica(&prefix, &store, 1000);
    let warmed = late.cache.warm_up().await;
    report(&format!("what redis has lost: {warmed:?}, {} loads", of_late.loads()));
    assert_eq!((warmed.keys, warmed.loaded, of_late.loads()), (20, 20, 1));
    assert_eq!(late.outcome(0).await, "hit_l1");
}

/// Fails if the list of hot keys grows without a bound, or keeps the wrong ones.
#[tokio::test]
async fn only_the_hottest_keys_are_kept() {
    let (store, prefix) = (Store::new().await, redis_prefix());
    read_before(&store, &prefix, 5).await;
    let (warm, _) = replica(&prefix, &store, 1000);
    let warmed = warm.cache.warm_up().await;
    assert_eq!((warmed.end, warmed.keys), (WarmUpEnd::Complete, 5));
    for key in 0..5 {
        assert_eq!(warm.outcome(key).await, "hit_l1", "key {key}");
    }
}

/// Fails without the timeout: then a process never starts while Redis is away.
#[tokio::test]
async fn a_process_starts_without_redis() {
    const TIMEOUT: Duration = Duration::from_millis(300);
    let store = Store::new().await;
    store.put(1, "one").await;
    let redis = PrivateRedis::start();
    let url = redis.url();
    drop(redis);
    let config = CacheConfig { warm_up_timeout: TIMEOUT, ..config(1000) };
    let replica = Replica::with(&url, "", &store, &config, &entity_config());
    let began = Instant::now();
    let warmed = tokio::time::timeout(LONG, replica.cache.warm_up()).await;
    let warmed = warmed.expect("it does not wait for redis for ever");
    report(&format!("a start without redis took {:?}: {warmed:?}", began.elapsed()));
    assert_eq!((warmed.end, warmed.keys), (WarmUpEnd::TimedOut, 0));
    assert_eq!(replica.outcome(1).await, "loaded");
}
