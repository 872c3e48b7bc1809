//! Changes reach every replica, and nothing that was read before a change comes back after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use forebay_config::CacheConfig;
use forebay_testkit::{PrivateRedis, redis_prefix, redis_url};

use crate::store::Store;
use crate::{BOUNDED, Replica, cache_config, entity_config, eventually, replicas};

/// Fails without the announcement: nothing else makes the entry of the other replica go away.
#[tokio::test]
async fn a_change_reaches_the_other_replica() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let [a, b] = replicas(&store).await;
    assert_eq!(b.get(1).await.as_deref(), Some("old"));
    assert_eq!(b.outcome(1).await, "hit_l1");
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"), "at once where it was made");
    eventually("it is seen elsewhere", async || b.get(1).await.as_deref() == Some("new")).await;
}

/// R1: the load has read the old row when the change is made. Fails without the fence of L1.
#[tokio::test]
async fn a_slow_load_does_not_bring_back_the_old_row_in_l1() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let [a] = replicas(&store).await;
    store.hold();
    let rows = a.rows.clone();
    let slow = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    store.release();
    slow.await.expect("task").expect("answered");
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
}

/// Who reads after a change is not handed what a slow load read before it. Fails if the slow load
/// is joined: then there is no second load.
#[tokio::test]
async fn a_read_after_a_change_joins_no_load_from_before() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let [a] = replicas(&store).await;
    store.hold();
    let rows = a.rows.clone();
    let slow = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    let rows = a.rows.clone();
    let later = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    store.release();
    store.release();
    let later = later.await.expect("task").expect("answered").value.expect("exists");
    assert_eq!(later.value.text, "new");
    slow.await.expect("task").expect("answered");
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
}

/// R1b: the slow load is on another replica, whose fill reaches Redis after the change. Fails if
/// the fill does not compare versions.
#[tokio::test]
async fn a_slow_load_does_not_bring_back_the_old_row_in_l2() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let [a, b] = replicas(&store).await;
    store.hold();
    let rows = b.rows.clone();
    let slow = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    store.release();
    slow.await.expect("task").expect("answered");
    // The fill of key 2 comes after that of key 1 from the same replica.
    let other = store.put(2, "two").await;
    b.get(2).await;
    b.l2_version(2, other).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    eventually("b has heard", async || b.get(1).await.as_deref() == Some("new")).await;
}

/// The same with a row that did not exist and is created meanwhile.
#[tokio::test]
async fn a_slow_load_does_not_bring_back_that_there_is_no_row() {
    let store = Store::new().await;
    let [a, b] = replicas(&store).await;
    store.hold();
    let rows = b.rows.clone();
    let slow = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
    store.held().await;
    let version = store.put(1, "created").await;
    a.rows.invalidate(&[(1, version)]).await;
    store.release();
    slow.await.expect("task").expect("answered");
    let other = store.put(2, "two").await;
    b.get(2).await;
    b.l2_version(2, other).await;
    assert_eq!(a.get(1).await.as_deref(), Some("created"));
    eventually("b has heard", async || b.get(1).await.is_some()).await;
}

/// R5: a writer reads its own change, with readers filling all the while. Fails if a read may join
/// one that began before the change, or take the old value from Redis before the tombstone is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_own_writes() {
    let store = Store::new().await;
    store.put(1, "0").await;
    let [a, b] = replicas(&store).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = [a.rows.clone(), a.rows.clone(), b.rows.clone(), b.rows.clone()]
        .into_iter()
        .map(|rows| {
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                while !done.load(SeqCst) {
                    rows.get(&1, BOUNDED).await.expect("get");
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 1..500 {
        let text = round.to_string();
        let version = store.put(1, &text).await;
        a.rows.invalidate(&[(1, version)]).await;
        assert_eq!(a.get(1).await, Some(text));
    }
    done.store(true, SeqCst);
    for reader in readers {
        reader.await.expect("reader");
    }
    eventually("b ends with the last", async || b.get(1).await.as_deref() == Some("499")).await;
}

/// The same while Redis hangs with the old value in it: what Redis has not confirmed is not read
/// from there. Fails if unconfirmed changes are not looked up.
#[tokio::test]
async fn a_writer_reads_its_own_writes_while_redis_hangs() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "old").await;
    let cache = CacheConfig { l2_timeout: Duration::from_millis(30), ..cache_config() };
    let a = Replica::with(&server.url(), "", &store, &cache, &entity_config());
    let a = a.l2_in_use(&store).await;
    a.get(1).await;
    server.stop();
    let version = store.put(1, "new").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    server.cont();
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    a.l2_version(1, version).await;
}

/// More changes than may wait are given up for a new epoch, which reaches the memory of the others
/// too. Fails if the new epoch is not announced.
#[tokio::test]
async fn changes_that_were_given_up_reach_the_other_replica_all_the_same() {
    let store = Store::new().await;
    store.put(1, "old").await;
    // Short, so that an entry is soon trusted for the announcements only, not for its age.
    let bound = Duration::from_secs(2);
    let cache = CacheConfig { staleness_max: bound, ..cache_config() };
    let (url, prefix, entity) = (redis_url(), redis_prefix(), entity_config());
    let a = Replica::with(&url, &prefix, &store, &cache, &entity).l2_in_use(&store).await;
    let b = Replica::with(&url, &prefix, &store, &cache, &entity).l2_in_use(&store).await;
    b.get(1).await;
    eventually("the entry is older than the bound", async || {
        let l1 = b.cache.inspect("row", "1").await.expect("inspect").l1;
        l1.is_some_and(|l1| l1.age.is_some_and(|age| age > bound))
    })
    .await;
    let version = store.put(1, "new").await;
    let mut changes = vec![(1, version)];
    changes.extend((0..70_000).map(|key| (1_000_000 + key, version)));
    a.rows.invalidate(&changes).await;
    assert_eq!(a.get(1).await.as_deref(), Some("new"));
    eventually("it is seen elsewhere", async || b.get(1).await.as_deref() == Some("new")).await;
    let fresh = store.put(2, "two").await;
    a.get(2).await;
    eventually("l2 is used again", async || {
        a.cache.evict("row", "2").await.expect("evict");
        a.get(2).await;
        let inspected = a.cache.inspect("row", "2").await.expect("inspect");
        inspected.l2.is_some_and(|l2| l2.version == fresh && !l2.negative)
    })
    .await;
}
