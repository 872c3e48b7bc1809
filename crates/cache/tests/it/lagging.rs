//! A store that answers from a server that is behind: what is older than what is known is never
//! cached, and never the answer.

use forebay_cache::{CacheError, Consistency};

use crate::store::Store;
use crate::{BOUNDED, Replica, replicas};

const KEYS: [u64; 3] = [1, 2, 3];

/// Three rows of which one is about to be changed, one created and one deleted; a server that lags
/// holds them as they are before. All is announced. The versions.
async fn scene(a: &Replica, store: &Store, wholly: bool) -> [i64; 3] {
    store.put(1, "old").await;
    store.put(3, "old").await;
    store.lag(&KEYS, wholly).await;
    let changed = store.put(1, "new").await;
    let created = store.put(2, "new").await;
    let deleted = store.delete(3).await;
    let versions = [changed, created, deleted];
    let changes: Vec<_> = KEYS.into_iter().zip(versions).collect();
    a.rows.invalidate(&changes).await;
    versions
}

/// What both levels of a replica hold of a key is not older than this version. That a deleted row
/// is not there is right whatever version they give it.
async fn holds_nothing_older(replica: &Replica, key: u64, version: i64, is_deleted: bool) {
    let inspected = replica.cache.inspect("row", &key.to_string()).await.expect("inspect");
    for (level, entry) in [("l1", inspected.l1), ("l2", inspected.l2)] {
        if let Some(entry) = entry.filter(|entry| !(is_deleted && entry.negative)) {
            assert!(entry.version >= version, "{level} holds {} of key {key}", entry.version);
        }
    }
}

/// Fails when what a load brings is not compared with what is known: the old rows are served, and
/// stay in the memory of the process.
#[tokio::test]
async fn what_a_lagging_server_answers_is_read_again_from_the_one_that_takes_writes() {
    let store = Store::new().await;
    let [a] = replicas(&store).await;
    let versions = scene(&a, &store, false).await;
    let expected = [Some("new"), Some("new"), None];
    for ((key, version), text) in KEYS.into_iter().zip(versions).zip(expected) {
        for consistency in [BOUNDED, Consistency::Strict, BOUNDED] {
            assert_eq!(
                a.get_with(key, consistency).await.as_deref(),
                text,
                "{key} {consistency:?}"
            );
        }
        holds_nothing_older(&a, key, version, text.is_none()).await;
    }
    store.catch_up();
}

/// The server that takes writes is behind as well: a failover, or a loader that does not know it.
/// Fails when such an answer is taken.
#[tokio::test]
async fn what_stays_old_is_refused_and_never_kept() {
    let store = Store::new().await;
    let [a] = replicas(&store).await;
    let [version, ..] = scene(&a, &store, true).await;
    for consistency in [BOUNDED, Consistency::Strict, BOUNDED] {
        let answer = a.rows.get(&1, consistency).await;
        assert!(
            matches!(answer, Err(CacheError::Behind { known, found }) if known == version && found < known),
            "{consistency:?}: {answer:?}"
        );
        holds_nothing_older(&a, 1, version, false).await;
    }
    store.catch_up();
    assert_eq!(a.get(1).await.as_deref(), Some("new"), "as soon as it has caught up");
    assert_eq!(a.outcome(1).await, "hit_l1");
}

/// Nobody knows whether a commit happened. If it did not, the row is read as it is. Fails when the
/// version that it would have made is expected of the store.
#[tokio::test]
async fn a_change_that_may_not_have_happened_is_not_waited_for() {
    let store = Store::new().await;
    store.put(1, "as it is").await;
    let [a] = replicas(&store).await;
    a.get(1).await;
    a.rows.doubt(&[1]).await;
    assert_eq!(a.outcome(1).await, "loaded", "read again, to be sure");
    assert_eq!(a.get(1).await.as_deref(), Some("as it is"));
}

/// A load need not have seen what is committed while it is under way. Fails when what it brings is
/// compared with what is known at its end.
#[tokio::test]
async fn a_change_during_a_load_is_no_reason_to_refuse_what_it_brings() {
    let store = Store::new().await;
    store.put(1, "old").await;
    let [a] = replicas(&store).await;
    for consistency in [BOUNDED, Consistency::Strict] {
        a.rows.invalidate(&[(1, store.put(1, "old").await)]).await;
        store.hold();
        let rows = a.rows.clone();
        let reader = tokio::spawn(async move { rows.get(&1, consistency).await });
        store.held().await;
        a.rows.invalidate(&[(1, store.put(1, "new").await)]).await;
        store.release();
        let answer = reader.await.expect("it ends");
        assert!(answer.is_ok(), "{consistency:?}: {answer:?}");
        assert_eq!(a.get(1).await.as_deref(), Some("new"), "whoever comes later sees it");
    }
}
