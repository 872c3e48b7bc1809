//! What an operator sees and does.

use forebay_cache::InspectError;

use crate::store::Store;
use crate::{HOUR, eventually, replicas};

#[tokio::test]
async fn an_entry_can_be_looked_at() {
    let store = Store::default();
    let version = store.put(1, "one");
    let [a] = replicas(&store).await;
    let nothing = a.cache.inspect("row", "1").await.expect("inspect");
    assert_eq!((nothing.l1, nothing.l2), (None, None));
    a.get(1).await;
    a.l2_version(1, version).await;
    let both = a.cache.inspect("row", "1").await.expect("inspect");
    for level in [both.l1.expect("l1"), both.l2.expect("l2")] {
        assert_eq!((level.version, level.negative), (version, false));
        assert_eq!(level.size_bytes, format!("{version} one").len());
        assert!(level.age.expect("known") < HOUR);
        assert!(level.time_to_live.expect("known") <= HOUR);
    }
}

/// Fails if an entry is only dropped here, or comes back from Redis.
#[tokio::test]
async fn an_evicted_entry_is_gone_everywhere() {
    let store = Store::default();
    let version = store.put(1, "one");
    let [a, b] = replicas(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    b.get(1).await;
    a.cache.evict("row", "1").await.expect("evict");
    let gone = a.cache.inspect("row", "1").await.expect("inspect");
    assert_eq!(gone.l1, None);
    let l2 = gone.l2.expect("a tombstone of the same version");
    assert_eq!((l2.version, l2.negative), (version, true));
    eventually("it is gone elsewhere", async || {
        b.cache.inspect("row", "1").await.expect("inspect").l1.is_none()
    })
    .await;
    assert_eq!(a.outcome(1).await, "loaded");
    a.l2_version(1, version).await;
}

#[tokio::test]
async fn what_does_not_exist_is_told() {
    let store = Store::default();
    let [a] = replicas(&store).await;
    let unknown = a.cache.inspect("column", "1").await;
    assert!(
        matches!(&unknown, Err(InspectError::UnknownEntity { known }) if known == &["row"]),
        "{unknown:?}"
    );
    assert!(matches!(a.cache.evict("row", "one").await, Err(InspectError::NotAKey)));
}
