//! What is read all the time is read again before it expires, once for all processes, and what it
//! brings is never older than a change that came meanwhile.

use std::time::Duration;

use forebay_config::CacheConfig;
use forebay_testkit::{redis_prefix, redis_url};

use crate::store::Store;
use crate::{HOUR, Replica, cache_config, entity_config, eventually, report};

/// Nobody else gets a turn however slow the machine is.
const FOREVER: Duration = Duration::from_secs(60);

/// A replica with a loader of its own that refreshes with every hit.
async fn replica(prefix: &str, store: &Store) -> (Replica, Store) {
    let store = store.another();
    let config = CacheConfig {
        lease_ttl: FOREVER,
        lease_wait: FOREVER,
        refresh_beta: 1e9,
        ..cache_config()
    };
    let replica = Replica::with(&redis_url(), prefix, &store, &config, &entity_config());
    (replica.l2_in_use(&store).await, store)
}

/// Waits until the replica reads nothing any more.
async fn at_rest(replica: &Replica) {
    let is_at_rest = async || {
        let stats = replica.cache.stats();
        stats.entities.iter().all(|entity| entity.reads_in_flight == 0)
    };
    eventually("nothing is under way", is_at_rest).await;
}

async fn in_l2(replica: &Replica) -> bytes::Bytes {
    let stored = replica.redis.shared().get("cache:row:3:1").await.expect("get");
    stored.expect("it is in redis")
}

/// Fails if a process that wants to refresh takes no notice of one that does, or of one that has.
#[tokio::test]
async fn two_processes_refresh_a_key_once() {
    let (store, prefix) = (Store::new().await, redis_prefix());
    let version = store.put(1, "one").await;
    let (a, of_a) = replica(&prefix, &store).await;
    let (b, of_b) = replica(&prefix, &store).await;
    assert_eq!(a.outcome(1).await, "loaded");
    a.l2_version(1, version).await;
    assert_eq!(b.outcome(1).await, "hit_l2");
    let (before, loads) = (in_l2(&a).await, (of_a.loads(), of_b.loads()));
    of_a.hold();
    assert_eq!(a.outcome(1).await, "hit_l1", "nobody waits");
    of_a.held().await;
    // `a` has the lease of an entry that is still there.
    assert_eq!(b.outcome(1).await, "hit_l1");
    of_a.release();
    at_rest(&a).await;
    at_rest(&b).await;
    eventually("redis has the new entry", async || in_l2(&a).await != before).await;
    let loads = (of_a.loads() - loads.0, of_b.loads() - loads.1);
    report(&format!("loads of two processes that refresh one key at once: {loads:?}"));
    assert_eq!(loads, (1, 0), "one for both");
    // `b` has it from `a`, so `a` is the one that refreshes next; `b` finds that it has.
    let (before, loads) = (in_l2(&a).await, (of_a.loads(), of_b.loads()));
    assert_eq!(a.outcome(1).await, "hit_l1");
    eventually("redis has a newer one", async || in_l2(&a).await != before).await;
    assert_eq!(b.outcome(1).await, "hit_l1");
    at_rest(&b).await;
    assert_eq!((of_a.loads() - loads.0, of_b.loads() - loads.1), (1, 0), "somebody has done it");
}

/// Fails if what a refresh brings is stored although the row has changed meanwhile.
#[tokio::test]
async fn a_change_during_a_refresh_wins() {
    let (store, prefix) = (Store::new().await, redis_prefix());
    let old = store.put(1, "one").await;
    let (a, of_a) = replica(&prefix, &store).await;
    let (b, _) = replica(&prefix, &store).await;
    assert_eq!(a.outcome(1).await, "loaded");
    a.l2_version(1, old).await;
    of_a.hold();
    assert_eq!(a.outcome(1).await, "hit_l1");
    // It has read the old row, and waits.
    of_a.held().await;
    let new = store.put(1, "two").await;
    eventually("b reads the new row", async || b.get(1).await.as_deref() == Some("two")).await;
    b.l2_version(1, new).await;
    let in_l1 = async || a.cache.inspect("row", "1").await.expect("inspected").l1;
    eventually("a has forgotten it", async || in_l1().await.is_none()).await;
    of_a.release();
    at_rest(&a).await;
    let fills = async |result| {
        let fills = &a.cache.stats().entities[0].fills;
        fills.iter().find(|(of, _)| *of == result).map_or(0, |(_, count)| *count)
    };
    eventually("its fill is turned away", async || fills("fenced").await == 1).await;
    let found = (in_l1().await.map(|entry| entry.version), a.get(1).await);
    report(&format!("after a refresh from before a change: {found:?}, in redis {new}"));
    assert_eq!(found, (None, Some("two".to_owned())));
    at_rest(&a).await;
    a.l2_version(1, new).await;
}

/// Fails without the jitter, in either level, or if it makes an entry live longer than it may.
#[tokio::test]
async fn entries_filled_together_expire_apart_in_both_levels() {
    // None of them has a row: that is an entry, too.
    const KEYS: u64 = 1_000;
    let store = Store::new().await;
    let [a, b] = crate::replicas(&store).await;
    let keys: Vec<u64> = (0..KEYS).collect();
    a.rows.get_many(&keys, crate::BOUNDED).await.expect("answered");
    let spread = |left: &[Duration]| {
        let (first, last) = (left.iter().min().expect("some"), left.iter().max().expect("some"));
        (*first, *last)
    };
    let left = async |replica: &Replica| {
        let mut levels = (Vec::new(), Vec::new());
        for key in &keys {
            let entry = replica.cache.inspect("row", &key.to_string()).await.expect("inspected");
            levels.0.extend(entry.l1.and_then(|it| it.time_to_live));
            levels.1.extend(entry.l2.and_then(|it| it.time_to_live));
        }
        levels
    };
    let count = usize::try_from(KEYS).expect("small");
    eventually("all are in redis", async || left(&a).await.1.len() == count).await;
    b.rows.get_many(&keys, crate::BOUNDED).await.expect("answered");
    let (in_a, in_redis) = left(&a).await;
    let (in_b, _) = left(&b).await;
    for (place, left) in [("a", in_a), ("redis", in_redis), ("b", in_b)] {
        assert_eq!(left.len(), count, "{place}");
        let (first, last) = spread(&left);
        report(&format!("{KEYS} entries filled together expire in {place} {first:?} to {last:?}"));
        assert!(last <= HOUR && last - first >= HOUR.mul_f64(0.15), "{place}");
    }
}
