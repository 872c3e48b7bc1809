//! Reads: who is asked, how often, and what the caller is told.

use std::time::Duration;

use forebay_cache::{CacheError, Consistency};
use forebay_config::EntityCacheConfig;
use forebay_pooling::Deadline;
use forebay_redis::{Command, Reply};
use forebay_testkit::{PrivateRedis, redis_prefix, redis_url};
use futures_util::future::join_all;

use crate::store::Store;
use crate::{BOUNDED, HOUR, Replica, entity_config, eventually, replicas};

#[tokio::test]
async fn each_level_answers_in_its_turn() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a, b] = replicas(&store).await;
    assert_eq!((a.outcome(1).await, a.outcome(1).await), ("loaded", "hit_l1"));
    a.l2_version(1, version).await;
    let loads = store.loads();
    assert_eq!((b.outcome(1).await, b.outcome(1).await), ("hit_l2", "hit_l1"));
    assert_eq!(store.loads(), loads);
    let entry = b.rows.get(&1, BOUNDED).await.expect("get").value.expect("exists");
    assert_eq!((entry.value.text.as_str(), entry.version), ("one", version));
    assert_eq!(entry.encoded, format!("{version} one"), "the stored form comes along");
}

/// Fails if each caller loads for himself.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_callers_share_one_load() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    let loads = store.loads();
    store.hold();
    let callers: Vec<_> = (0..1000)
        .map(|_| {
            let rows = a.rows.clone();
            tokio::spawn(async move { rows.get(&1, BOUNDED).await })
        })
        .collect();
    store.held().await;
    store.release();
    for caller in callers {
        let lookup = caller.await.expect("task").expect("get");
        assert_eq!(lookup.value.expect("exists").value.text, "one");
    }
    assert_eq!(store.loads() - loads, 1);
}

/// Fails if the read belongs to the caller who came first.
#[tokio::test]
async fn a_cancelled_leader_takes_nobody_along() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    let loads = store.loads();
    store.hold();
    let rows = a.rows.clone();
    let leader = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    let mut waiter = Box::pin(a.get(1));
    assert!(futures_util::poll!(&mut waiter).is_pending());
    leader.abort();
    assert!(leader.await.expect_err("aborted").is_cancelled());
    store.release();
    assert_eq!(waiter.await.as_deref(), Some("one"));
    assert_eq!(store.loads() - loads, 1);
}

#[tokio::test]
async fn a_panicking_loader_is_an_error_of_all_who_wait() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    store.panic(true);
    let both = join_all([a.rows.get(&1, BOUNDED), a.rows.get(&1, BOUNDED)]).await;
    for answer in both {
        assert!(matches!(answer, Err(CacheError::LoaderPanicked)), "{answer:?}");
    }
    store.panic(false);
    assert_eq!(a.get(1).await.as_deref(), Some("one"), "the next read starts afresh");
}

#[tokio::test]
async fn a_failing_store_is_an_error_unless_an_old_entry_may_do() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    a.get(1).await;
    store.fail(true);
    let zero = Consistency::Bounded(Duration::ZERO);
    a.redis.shared().del(&["cache:row:3:1"]).await.expect("del");
    let answer = a.rows.get(&1, zero).await;
    assert!(matches!(answer, Err(CacheError::Load(_))), "{answer:?}");
    let answer = a.rows.get(&2, Consistency::Available { max_age: HOUR }).await;
    assert!(matches!(answer, Err(CacheError::Load(_))), "nothing old is there: {answer:?}");
}

#[tokio::test]
async fn a_deadline_ends_the_wait_but_not_the_load() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    store.hold();
    let read = Deadline::after(Duration::from_millis(50)).scope(a.rows.get(&1, BOUNDED));
    assert!(matches!(read.await, Err(CacheError::Deadline)));
    store.release();
    eventually("the load has filled l1", async || a.outcome(1).await == "hit_l1").await;
}

/// Fails if keys are read one by one, from Redis or from the store.
#[tokio::test]
async fn many_keys_cost_one_command_and_one_load_and_keep_their_order() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    let mut last = 0;
    for key in 0..100 {
        let version = store.put(key, &format!("row {key}")).await;
        last = if key == 49 { version } else { last };
    }
    let a = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    let b = Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    let keys: Vec<u64> = (0..50).collect();
    b.rows.get_many(&keys, BOUNDED).await.expect("fills l2");
    b.l2_version(49, last).await;
    for key in 0..10 {
        a.get(key).await;
    }
    let (reads, loads, loaded) = (commands(&a, "mget").await, store.loads(), store.keys_loaded());
    // Keys 5 to 9 are in L1, 10 to 49 in L2, 50 to 59 in the store, 1000 nowhere.
    let mut keys: Vec<u64> = (5..60).rev().collect();
    keys.extend([1000, 5, 1000, 55]);
    let answers = a.rows.get_many(&keys, BOUNDED).await.expect("get_many");
    assert_eq!(commands(&a, "mget").await - reads, 1);
    assert_eq!((store.loads() - loads, store.keys_loaded() - loaded), (1, 11));
    for (key, lookup) in keys.iter().zip(&answers) {
        let expected = (*key < 100).then(|| format!("row {key}"));
        assert_eq!(lookup.value.as_ref().map(|entry| entry.value.text.clone()), expected);
        let outcome = match key {
            5..10 => "hit_l1",
            10..50 => "hit_l2",
            1000 => "absent",
            _ => "loaded",
        };
        assert_eq!(lookup.outcome.as_str(), outcome, "key {key}");
    }
    let loads = store.loads();
    let strict = a.rows.get_many(&[1, 1, 2], Consistency::Strict).await.expect("strict");
    assert_eq!(store.loads() - loads, 1);
    assert!(strict.iter().all(|lookup| lookup.value.is_some()), "also the repeated one");
    assert!(a.rows.get_many(&[], BOUNDED).await.expect("nothing").is_empty());
}

/// How often the server has run a command.
async fn commands(replica: &Replica, name: &str) -> u64 {
    let mut lease = replica.redis.dedicated().await.expect("lease");
    let info = Command::new("INFO").arg("commandstats");
    let Reply::Bytes(info) = lease.call(&info, HOUR).await.expect("info") else {
        panic!("INFO is text");
    };
    let info = String::from_utf8_lossy(&info).into_owned();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_negative_answer_is_remembered_until_the_row_is_created() {
    let store = Store::new().await;
    let [a, b] = replicas(&store).await;
    assert_eq!((a.outcome(1).await, a.outcome(1).await), ("absent", "negative_l1"));
    a.l2_version(1, 0).await;
    assert_eq!(b.outcome(1).await, "negative_l2");
    let version = store.put(1, "created").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("created"));
    eventually("the other replica knows", async || b.get(1).await.is_some()).await;
    let version = store.delete(1).await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await, None);
    a.l2_version(1, version).await;
    eventually("the other replica knows", async || b.get(1).await.is_none()).await;
}

#[tokio::test]
async fn strict_reads_the_store_every_time() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let [a] = replicas(&store).await;
    a.get(1).await;
    store.put(1, "two").await;
    assert_eq!(a.get_with(1, Consistency::Strict).await.as_deref(), Some("two"));
    assert_eq!(a.get(1).await.as_deref(), Some("two"), "a strict read fills l1");
}

/// A read under way may have read before the change. Fails if it is joined by a caller who asked
/// for something fresher than its beginning.
#[tokio::test]
async fn a_read_joins_none_that_began_before_its_bound() {
    for fresh in [Consistency::Strict, Consistency::Bounded(Duration::ZERO)] {
        let store = Store::new().await;
        store.put(1, "old").await;
        let [a] = replicas(&store).await;
        store.hold();
        let rows = a.rows.clone();
        let earlier = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
        store.held().await;
        store.put(1, "new").await;
        let rows = a.rows.clone();
        let later = tokio::spawn(async move { rows.get(&1, fresh).await });
        store.held().await;
        store.release();
        store.release();
        let later = later.await.expect("task").expect("get").value.expect("exists");
        assert_eq!(later.value.text, "new", "{fresh:?}");
        earlier.await.expect("task").expect("the earlier one is answered too");
    }
}

#[tokio::test]
async fn redis_keeps_entries_for_their_time_to_live_less_a_fifth_at_most() {
    let store = Store::new().await;
    let negative_ttl = Duration::from_secs(60);
    let config = EntityCacheConfig { negative_ttl, ..entity_config() };
    let a = Replica::with(&redis_url(), &redis_prefix(), &store, &crate::cache_config(), &config);
    let a = a.l2_in_use(&store).await;
    for (key, ttl) in [(1, HOUR), (2, negative_ttl)] {
        if key == 1 {
            // The tombstone of the change, which would void the lease of a fill before it.
            let version = store.put(key, "one").await;
            a.l2_version(key, version).await;
        }
        a.get(key).await;
        // A tombstone has no age.
        eventually("it is in redis", async || {
            let inspected = a.cache.inspect("row", &key.to_string()).await;
            inspected.is_ok_and(|entry| entry.l2.is_some_and(|l2| l2.age.is_some()))
        })
        .await;
        let left = a.redis.shared().pttl(&format!("cache:row:3:{key}")).await;
        let left = left.expect("pttl").expect("expires");
        assert!(left <= ttl && left > ttl.mul_f64(0.8) - Duration::from_secs(15), "{left:?}");
    }
}

#[tokio::test]
async fn entries_expire_in_l1() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let config = EntityCacheConfig { ttl: Duration::from_millis(200), ..entity_config() };
    let a = Replica::with(&redis_url(), &redis_prefix(), &store, &crate::cache_config(), &config);
    let a = a.l2_in_use(&store).await;
    a.get(1).await;
    store.put(1, "two").await;
    eventually("the old entry expires", async || a.get(1).await.as_deref() == Some("two")).await;
}

#[tokio::test]
async fn values_that_are_too_large_are_served_and_not_kept() {
    let store = Store::new().await;
    let large = "x".repeat(5000);
    store.put(1, &large).await;
    let [a] = replicas(&store).await;
    assert_eq!(a.get(1).await, Some(large));
    assert_eq!(a.outcome(1).await, "loaded");
    assert_eq!(a.redis.shared().get("cache:row:3:1").await.expect("get"), None);
}
