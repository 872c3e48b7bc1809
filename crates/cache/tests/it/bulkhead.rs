//! A store that is slower than it is asked: how many loads it sees, and what callers are told.

use std::time::Duration;

use forebay_cache::{CacheError, Consistency};
use forebay_config::{CacheConfig, EntityCacheConfig};
use forebay_pooling::Deadline;
use forebay_testkit::{redis_prefix, redis_url};
use futures_util::future::join_all;

use crate::store::Store;
use crate::{BOUNDED, HOUR, Replica, cache_config, entity_config, eventually};

/// Fails without the limit of loads (`peak`), without the limit of those who wait (nobody is ever
/// refused), or if those who wait are loaded one by one (`loads`).
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_store_sees_a_few_loads_and_the_queue_is_bounded() {
    let store = Store::new().await;
    for key in 0..1000 {
        store.put(key, "row").await;
    }
    // Nothing in L1 is trusted, so that an old entry is stale at once.
    let cache = CacheConfig { staleness_max: Duration::ZERO, ..cache_config() };
    let entity = EntityCacheConfig { loads_max: 2, loads_waiting_keys_max: 40, ..entity_config() };
    let a = Replica::with(&redis_url(), &redis_prefix(), &store, &cache, &entity);
    a.get(1).await;
    let (loads, loaded) = (store.loads(), store.keys_loaded());
    store.hold();
    let strict = async |key: u64| a.rows.get(&key, Consistency::Strict).await;
    let (observed, strict) = (&store, &strict);
    let callers = join_all((100..150).map(|key| async move {
        // The first two take both places, and the others wait for them.
        if key > 100 {
            eventually("one is under way", async || observed.loads() > loads).await;
        }
        if key > 101 {
            eventually("two are under way", async || observed.peak() > 1).await;
        }
        strict(key).await
    }));
    let outsiders = async {
        eventually("as many loads as may be are under way", async || store.peak() == 2).await;
        // Far beyond the window, so whatever may depart has departed.
        tokio::time::sleep(Duration::from_millis(50)).await;
        eventually("too many wait", async || {
            let soon = Deadline::after(Duration::from_millis(20));
            match soon.scope(strict(900)).await {
                Err(CacheError::Overloaded { waiting_keys, retry_after }) => {
                    assert!(waiting_keys > 30 && !retry_after.is_zero(), "{waiting_keys}");
                    true
                }
                Err(CacheError::Deadline) => false,
                other => panic!("the store answers nobody: {other:?}"),
            }
        })
        .await;
        let stale = a.rows.get(&1, Consistency::Available { max_age: HOUR }).await.expect("stale");
        assert_eq!(stale.outcome.as_str(), "stale");
        assert!(matches!(a.rows.get(&2, BOUNDED).await, Err(CacheError::Overloaded { .. })));
        for _ in 0..100 {
            store.release();
        }
    };
    let (answers, ()) = futures_util::join!(callers, outsiders);
    let refused = answers
        .iter()
        .filter(|answer| matches!(answer, Err(CacheError::Overloaded { .. })))
        .count();
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    let (loads, loaded) = (store.loads() - loads, store.keys_loaded() - loaded);
    crate::report(&format!(
        "50 callers of a slow store: {served} served, {refused} refused, {loads} loads of {loaded} \
         keys, {} at once",
        store.peak()
    ));
    assert_eq!(store.peak(), 2);
    assert_eq!(served + refused, 50, "{answers:?}");
    assert!(served >= 40, "{served}");
    assert!(loads <= 5, "{loads}");
    assert_eq!(a.get(3).await.as_deref(), Some("row"), "the queue is empty again");
}
