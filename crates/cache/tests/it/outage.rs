//! Redis killed, hanging, restarted: reads answer, and nothing old is served afterwards.

use std::time::Duration;

use forebay_cache::Consistency;
use forebay_config::CacheConfig;
use forebay_pooling::Deadline;
use forebay_redis::{Command, RedisPool};
use forebay_testkit::{PrivateRedis, redis_config};

use crate::store::Store;
use crate::{BOUNDED, HOUR, Replica, cache_config, entity_config, eventually};

/// A server that keeps its data over a restart.
fn durable() -> PrivateRedis {
    PrivateRedis::start_with(&[("appendonly", "yes"), ("appendfsync", "always")])
}

#[tokio::test]
async fn a_dead_redis_costs_no_read() {
    let mut server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "one").await;
    let a = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    a.get(1).await;
    server.kill();
    for key in 1..100 {
        store.put(key, "written while redis is dead").await;
        a.rows.get(&key, BOUNDED).await.expect("answered");
    }
    server.restart();
    let a = a.l2_in_use(&store).await;
    assert!(a.get(1).await.is_some());
}

#[tokio::test]
async fn a_redis_that_was_never_there_costs_no_read() {
    let mut server = PrivateRedis::start();
    server.kill();
    let store = Store::new().await;
    store.put(1, "one").await;
    let a = Replica::new(&server.url(), "", &store);
    assert_eq!((a.outcome(1).await, a.outcome(1).await), ("loaded", "hit_l1"));
    let version = store.put(1, "two").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("two"));
    server.restart();
    a.l2_in_use(&store).await;
}

/// The limit of one operation is long here: without the breaker and without noticing that the
/// subscription is silent, the reads would take minutes.
#[tokio::test]
async fn a_hanging_redis_is_soon_no_longer_asked() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    let cache = CacheConfig { l2_timeout: Duration::from_millis(300), ..cache_config() };
    let a = Replica::with(&server.url(), "", &store, &cache, &entity_config());
    let a = a.l2_in_use(&store).await;
    server.stop();
    let reads = async {
        for key in 0..1000 {
            store.put(key, "row").await;
            assert!(a.get(key).await.is_some());
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reads).await.expect("1000 reads end");
    server.cont();
    a.l2_in_use(&store).await;
}

/// Fails if entries are trusted although announcements cannot arrive.
#[tokio::test]
async fn without_announcements_l1_is_trusted_for_the_bound_only() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "old").await;
    let cache = CacheConfig { staleness_max: Duration::from_millis(400), ..cache_config() };
    let a = Replica::with(&server.url(), "", &store, &cache, &entity_config());
    let a = a.l2_in_use(&store).await;
    a.get(1).await;
    // While announcements arrive, the entry is trusted for much longer than the bound.
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    let mut hits = 0;
    while tokio::time::Instant::now() < until {
        hits += usize::from(a.outcome(1).await == "hit_l1");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(hits > 50, "{hits}");
    server.kill();
    store.put(1, "new").await;
    let seen = async || a.get(1).await.as_deref() == Some("new");
    eventually("the change is seen without any announcement", seen).await;
}

/// The announcement was lost with the connection. Fails if entries from before the gap are trusted
/// after it, in L1 (no new session) or in L2 (no new epoch).
#[tokio::test]
async fn after_a_gap_nothing_from_before_is_trusted() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    let version = store.put(1, "old").await;
    // Short, so that an entry is soon trusted for the announcements only, not for its age.
    let cache = CacheConfig { staleness_max: Duration::from_millis(700), ..cache_config() };
    let a = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    let b = Replica::with(&server.url(), "", &store, &cache, &entity_config());
    let b = b.l2_in_use(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    assert_eq!(b.outcome(1).await, "hit_l2");
    store.put(1, "new").await;
    let mut lease = a.redis.dedicated().await.expect("lease");
    let cut = Command::new("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    lease.call(&cut, HOUR).await.expect("cut");
    let seen = async || b.get(1).await.as_deref() == Some("new");
    eventually("the change is seen although its announcement was lost", seen).await;
}

/// The writer commits while Redis is dead and dies before it can announce. Redis comes back with
/// its old data. Fails if a replica that starts afterwards trusts what Redis held before the outage,
/// without replaying what the claim of the data set does not cover.
#[tokio::test]
async fn old_data_of_a_restarted_redis_is_not_trusted() {
    let mut server = durable();
    let store = Store::new().await;
    let version = store.put(1, "old").await;
    let a = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    server.kill();
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    drop(a);
    server.restart();
    let raw = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    raw.ready().await.expect("it is back");
    let held = raw.shared().get("cache:row:3:1").await.expect("get").expect("still there");
    assert!(held.ends_with(b"old"), "redis did come back with the old value");
    let c = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    assert_eq!(c.get(1).await.as_deref(), Some("new"));
}

/// Fails if the change is not sent again.
#[tokio::test]
async fn a_change_made_while_redis_is_dead_is_announced_when_it_is_back() {
    let mut server = durable();
    let store = Store::new().await;
    let version = store.put(1, "old").await;
    let a = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    server.kill();
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    assert!(!a.cache.drain(Deadline::after(Duration::ZERO)).await, "nobody can confirm");
    server.restart();
    assert!(a.cache.drain(Deadline::after(Duration::from_secs(10))).await);
    a.l2_version(1, version).await;
}

#[tokio::test]
async fn an_old_entry_is_served_when_store_and_redis_are_gone() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "old").await;
    let cache = CacheConfig { staleness_max: Duration::ZERO, ..cache_config() };
    let a = Replica::with(&server.url(), "", &store, &cache, &entity_config());
    a.get(1).await;
    server.kill();
    store.fail(true);
    let lookup = a.rows.get(&1, Consistency::Available { max_age: HOUR }).await.expect("stale");
    assert_eq!(lookup.outcome.as_str(), "stale");
    assert_eq!(lookup.value.expect("exists").value.text, "old");
    let answer = a.rows.get(&1, Consistency::Available { max_age: Duration::ZERO }).await;
    assert!(answer.is_err(), "older than allowed: {answer:?}");
    assert!(a.rows.get(&1, BOUNDED).await.is_err(), "not asked for");
}
