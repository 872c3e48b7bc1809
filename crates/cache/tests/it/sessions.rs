//! Callers who say what they have seen: they read their own writes, and nothing older than what they
//! have read, on whichever replica.

use std::time::Duration;

use forebay_cache::{CacheError, Consistency, L2State};
use forebay_config::CacheConfig;
use forebay_postgres::Sql;
use forebay_testkit::PrivateRedis;
use tokio::time::Instant;

use crate::store::Store;
use crate::{BOUNDED, HOUR, Replica, cache_config, entity_config, eventually, replicas};

/// A replica whose tail asks once and then for an hour no more, and that no announcement reaches.
async fn deaf(store: &Store) -> Replica {
    let redis = PrivateRedis::start();
    deaf_on(&redis.url(), store).await
}

/// The same, on the Redis at `url`.
async fn deaf_on(url: &str, store: &Store) -> Replica {
    let cache = CacheConfig { outbox_interval: HOUR, ..cache_config() };
    let replica = Replica::with(url, "", store, &cache, &entity_config());
    let trusted = async || replica.cache.stats().l2_state == L2State::Trusted;
    eventually("the tail has asked", trusted).await;
    replica
}

/// What a session of this version reads.
async fn read(replica: &Replica, key: u64, min_version: i64) -> (Option<String>, &'static str) {
    let lookup = replica.rows.get(&key, BOUNDED.after(min_version)).await.expect("answered");
    (lookup.value.map(|entry| entry.value.text.clone()), lookup.outcome.as_str())
}

/// A write on one replica, a read on another that has heard of nothing. Fails when the version is not
/// looked at: the old row is in the memory of the second.
#[tokio::test]
async fn a_read_with_the_version_of_a_write_sees_it_on_a_replica_that_has_not_heard() {
    let store = Store::new().await;
    let [a] = replicas(&store).await;
    let b = deaf(&store).await;
    for (key, text) in [(1, Some("old")), (2, None), (3, Some("old"))] {
        if let Some(text) = text {
            store.put(key, text).await;
        }
        assert_eq!(b.get(key).await.as_deref(), text);
    }
    let changed = store.put(1, "new").await;
    let created = store.put(2, "new").await;
    let deleted = store.delete(3).await;
    a.rows.invalidate(&[(1, changed), (2, created), (3, deleted)]).await;
    // Without a version it may be old, and is: the replica is as deaf as the test needs it.
    assert_eq!(b.get(1).await.as_deref(), Some("old"));
    assert_eq!((b.get(2).await, b.get(3).await.as_deref()), (None, Some("old")));
    // One number stands for all three.
    let session = deleted;
    assert_eq!(read(&b, 1, session).await, (Some("new".to_owned()), "loaded"));
    assert_eq!(read(&b, 2, session).await, (Some("new".to_owned()), "loaded"));
    assert_eq!(read(&b, 3, session).await, (None, "absent"));
    let keys = [3, 2, 1];
    let all = b.rows.get_many(&keys, BOUNDED.after(session)).await.expect("answered");
    let texts: Vec<_> =
        all.iter().map(|found| found.value.as_ref().map(|it| &it.value.text)).collect();
    assert_eq!(texts, [None, Some(&"new".to_owned()), Some(&"new".to_owned())]);
    // What is as new as all that was seen is served from memory.
    assert_eq!(read(&b, 1, changed).await.1, "hit_l1");
}

/// Who has created a row names its version to replicas that hold "there is no such row" from before,
/// one in its memory and one in its Redis. Fails when either level serves that whatever was created
/// since. What is as new as all that was seen is served: then there is no row again.
#[tokio::test]
async fn who_has_created_a_row_is_not_told_that_there_is_none() {
    let store = Store::new().await;
    let redis = PrivateRedis::start();
    let [in_memory, in_redis] =
        [deaf_on(&redis.url(), &store).await, deaf_on(&redis.url(), &store).await];
    let other = store.put(2, "another row").await;
    // From the store into both levels.
    assert_eq!(read(&in_memory, 1, 0).await, (None, "absent"));
    eventually("redis holds that there is none", async || {
        let inspected = in_redis.cache.inspect("row", "1").await.expect("redis answers");
        inspected.l2.is_some_and(|entry| entry.negative)
    })
    .await;
    let created = store.put(1, "new").await;
    assert_eq!(read(&in_memory, 1, 0).await, (None, "negative_l1"), "who does not say");
    assert_eq!(read(&in_memory, 1, created).await, (Some("new".to_owned()), "loaded"));
    assert_eq!(read(&in_redis, 1, created).await, (Some("new".to_owned()), "loaded"));
    // It has gone, and one of them knows of that: nothing that was seen is missing.
    let deleted = store.delete(1).await;
    in_memory.rows.invalidate(&[(1, deleted)]).await;
    assert_eq!(read(&in_memory, 1, created).await.0, None);
    assert_eq!(read(&in_memory, 1, created.max(other)).await.0, None);
}

/// A session that only reads goes from a replica that has heard to one that has not. Fails when the
/// version is not looked at.
#[tokio::test]
async fn a_session_does_not_go_back_in_time_on_another_replica() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let b = deaf(&store).await;
    b.get(1).await;
    store.put(1, "new").await;
    let [a] = replicas(&store).await;
    let seen = a.rows.get(&1, BOUNDED).await.expect("answered").value.expect("a row").version;
    assert_eq!(b.get(1).await.as_deref(), Some("old"));
    assert_eq!(read(&b, 1, seen).await.0.as_deref(), Some("new"));
}

/// A version that the tail has settled costs nothing. Fails when it is not remembered that it was:
/// every read goes to the store.
#[tokio::test]
async fn an_old_version_costs_a_round_of_the_tail_and_then_nothing() {
    let store = Store::new().await;
    for key in 0..20 {
        store.put(key, "a row").await;
    }
    let session = store.put(1000, "the newest").await;
    let [a] = replicas(&store).await;
    for key in 0..20 {
        a.get(key).await;
    }
    let asked_at = Instant::now();
    eventually("the version is settled", async || read(&a, 0, session).await.1 == "hit_l1").await;
    crate::report(&format!("an old version: settled after {:?}", asked_at.elapsed()));
    let loads = store.loads();
    for key in 0..20 {
        assert_eq!(read(&a, key, session).await.1, "hit_l1");
    }
    assert_eq!(store.loads(), loads);
}

/// Two rows: the lower version is committed last, and the session has seen both. Fails when a version
/// counts as settled because it was applied: the tail has applied the higher one long ago.
#[tokio::test]
async fn the_highest_version_stands_for_lower_ones_that_were_committed_later() {
    const PUT: Sql = Sql::new("UPDATE rows", "UPDATE rows SET text = $2 WHERE name = $1");
    let store = Store::new().await;
    for key in [1, 2] {
        store.put(key, "old").await;
    }
    let [a] = replicas(&store).await;
    let mut slow = store.postgres().begin().await.expect("a transaction");
    slow.execute(&PUT, &[&"1", &"new"]).await.expect("drawn and not committed");
    let session = store.put(2, "new").await;
    // Others ask for the same version for as long as it takes the tail to hear of it, and to look.
    eventually("the higher one is known", async || a.get(2).await.as_deref() == Some("new")).await;
    for _ in 0..10 {
        let next = store.put(1000, "later").await;
        let known = async || {
            read(&a, 2, session).await;
            a.get(1000).await.is_some() && {
                let lookup = a.rows.get(&1000, BOUNDED).await.expect("answered");
                lookup.value.is_some_and(|entry| entry.version >= next)
            }
        };
        eventually("the tail goes on", known).await;
    }
    assert_eq!(a.get(1).await.as_deref(), Some("old"));
    // In the memory of the replica is the old row, and its tail is about to hear of the new one.
    slow.commit().await.expect("committed");
    assert_eq!(read(&a, 1, session).await.0.as_deref(), Some("new"));
    eventually("it settles when all have ended", async || read(&a, 1, session).await.1 == "hit_l1")
        .await;
}

/// A version that was never given out does not make the store be read for ever. Fails when nobody
/// finds out.
#[tokio::test]
async fn a_version_that_was_never_given_out_is_refused_and_a_later_one_is_not() {
    let store = Store::new().await;
    let newest = store.put(1, "one").await;
    let [a] = replicas(&store).await;
    let newest_of_all = store.put(2, "two").await;
    // A change of a row that is there draws two: the insertion that it begins as has one.
    let bogus = newest_of_all + 4;
    let refused = async || {
        let answer = a.rows.get(&1, BOUNDED.after(bogus)).await;
        matches!(answer, Err(CacheError::UnknownVersion { version, newest })
            if version == bogus && newest == newest_of_all)
    };
    eventually("it is refused", refused).await;
    let loads = store.loads();
    for _ in 0..20 {
        assert!(refused().await);
    }
    assert_eq!(store.loads(), loads, "and costs no read of the row");
    // Other versions go on, and the same one does as soon as somebody has it.
    assert_eq!(read(&a, 1, newest).await.0.as_deref(), Some("one"));
    store.put(2, "more").await;
    assert_eq!(store.put(1, "real").await, bogus);
    assert_eq!(read(&a, 1, bogus).await.0.as_deref(), Some("real"));
}

/// While the store is down, an old entry is better than none, but not for who has seen a newer one.
#[tokio::test]
async fn nobody_is_served_a_stale_entry_from_before_what_he_has_seen() {
    let store = Store::new().await;
    let old = store.put(1, "old").await;
    let b = deaf(&store).await;
    b.get(1).await;
    let new = store.put(1, "new").await;
    store.fail(true);
    let available = Consistency::Available { max_age: HOUR };
    let answer = b.rows.get(&1, available.after(new)).await;
    assert!(matches!(answer, Err(CacheError::Load(_))), "{answer:?}");
    let answer = b.rows.get(&1, available.after(old)).await.expect("it has what was seen");
    assert_eq!(answer.value.expect("a row").value.text, "old");
}

/// What a session costs others: nothing. Fails when a read without a version waits for the store.
#[tokio::test]
async fn who_does_not_say_is_answered_as_before() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let b = deaf(&store).await;
    b.get(1).await;
    let session = store.put(2, "two").await;
    store.hold();
    let rows = b.rows.clone();
    let slow = tokio::spawn(async move { rows.get(&1, BOUNDED.after(session)).await });
    store.held().await;
    let lookup = tokio::time::timeout(Duration::from_secs(10), b.rows.get(&1, BOUNDED)).await;
    assert_eq!(lookup.expect("at once").expect("answered").outcome.as_str(), "hit_l1");
    store.release();
    slow.await.expect("task").expect("answered");
}
