//! What is changed by plain SQL reaches every replica, whatever Redis does.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::time::Duration;

use forebay_cache::Consistency;
use forebay_config::CacheConfig;
use forebay_postgres::Sql;
use forebay_testkit::PrivateRedis;
use tokio::time::Instant;

use crate::store::Store;
use crate::{BOUNDED, Replica, cache_config, entity_config, eventually};

pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// Nothing is older than the bound.
pub(crate) fn config() -> CacheConfig {
    CacheConfig { staleness_max: BOUND, ..cache_config() }
}

async fn two(url: &str, store: &Store) -> [Replica; 2] {
    let new = || Replica::with(url, "", store, &config(), &entity_config());
    [new().l2_in_use(store).await, new().l2_in_use(store).await]
}

/// Asserts that no answer is older than the bound allows, for changes that nobody announces.
pub(crate) async fn never_older_than_the_bound(replicas: &[Replica], store: &Store) {
    let mut seen_after = Duration::ZERO;
    for round in 0..10 {
        let text = format!("round {round}");
        store.put(1, &text).await;
        let committed = Instant::now();
        for replica in replicas {
            loop {
                let began = Instant::now();
                let value = replica.get_with(1, Consistency::Bounded(BOUND)).await;
                if value.as_deref() == Some(&text) {
                    break;
                }
                assert!(began <= committed + BOUND, "stale after {:?}", began - committed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            seen_after = seen_after.max(committed.elapsed());
        }
    }
    println!("changed by SQL, seen by {} replicas after {seen_after:?} at most", replicas.len());
}

/// Fails without the tail: the entries are in L1 and nobody announces the change.
#[tokio::test]
async fn a_change_by_sql_is_seen_within_the_bound() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "first").await;
    let replicas = two(&server.url(), &store).await;
    never_older_than_the_bound(&replicas, &store).await;
}

/// Fails if the tail needs Redis.
#[tokio::test]
async fn a_change_by_sql_is_seen_while_redis_is_dead_and_l1_goes_on() {
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "first").await;
    let replicas = two(&server.url(), &store).await;
    server.kill();
    never_older_than_the_bound(&replicas, &store).await;
    let [a, _b] = &replicas;
    a.get(1).await;
    let until = Instant::now() + 3 * BOUND;
    let mut hits = 0;
    while Instant::now() < until {
        hits += usize::from(a.outcome(1).await == "hit_l1");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(hits > 100, "an entry outlives the bound while the tail goes on: {hits}");
}

/// Fails with a tail that waits for older transactions: the open one makes it stand still, the
/// caches are trusted for a second only, and the rest is loads.
#[tokio::test]
async fn an_open_transaction_does_not_stop_the_tail() {
    const ELSEWHERE: Sql =
        Sql::new("INSERT rows", "INSERT INTO rows (name, text) VALUES ('1000', 'not committed')");
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "first").await;
    let [a, _b] = two(&server.url(), &store).await;
    let mut open = store.postgres().begin().await.expect("a transaction");
    open.execute(&ELSEWHERE, &[]).await.expect("an uncommitted change");
    a.get(1).await;
    a.get(1000).await;
    store.put(1, "second").await;
    let changed = Instant::now();
    eventually("the change is seen", async || a.get(1).await.as_deref() == Some("second")).await;
    println!("seen {:?} after its commit, beside an open transaction", changed.elapsed());
    let loads = store.loads();
    let until = Instant::now() + 3 * BOUND;
    while Instant::now() < until {
        a.get(1).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let loads = store.loads() - loads;
    assert!(loads <= 1, "the entry is trusted all the while, loads: {loads}");
    open.commit().await.expect("committed");
    let committed = Instant::now();
    eventually("the older transaction is seen", async || a.get(1000).await.is_some()).await;
    println!("seen {:?} after the commit of the older transaction", committed.elapsed());
}

/// Fails if a truncation leaves what was cached of the table.
#[tokio::test]
async fn a_truncation_is_seen() {
    const TRUNCATE: Sql = Sql::new("TRUNCATE rows", "TRUNCATE rows");
    let server = PrivateRedis::start();
    let store = Store::new().await;
    store.put(1, "first").await;
    let [a, b] = two(&server.url(), &store).await;
    a.get(1).await;
    b.get(1).await;
    store.postgres().execute(&TRUNCATE, &[]).await.expect("truncated");
    for replica in [&a, &b] {
        eventually("it is gone", async || replica.get(1).await.is_none()).await;
    }
    assert!(a.rows.get(&1, BOUNDED).await.expect("get").value.is_none());
}
