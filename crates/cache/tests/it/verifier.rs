//! Hits are checked against Postgres.

use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{
    Cache, ChangedRow, Consistency, DecodeError, Entity, EntityCache, Loader, Outcome, Rows,
};
use forebay_config::CacheConfig;
use forebay_redis::RedisPool;
use forebay_testkit::{redis_config, redis_prefix, redis_url};

use crate::store::{Row, Store, StoreDown};
use crate::{Replica, cache_config, entity_config, eventually, report};

const BOUND: Duration = Duration::from_millis(200);

/// Every hit is checked.
fn config() -> CacheConfig {
    CacheConfig {
        staleness_max: BOUND,
        verify_share: 1.0,
        verified_per_second_max: 1000,
        ..cache_config()
    }
}

/// Rows whose changes nobody tells the cache: it is coherent in nothing but its promise.
#[derive(Debug)]
struct Deaf;

impl Entity for Deaf {
    type Key = u64;
    type Value = Row;
    const NAME: &'static str = "deaf";
    const SOURCE: &'static str = Row::SOURCE;
    const SCHEMA: u16 = 1;

    fn key_text(key: &u64) -> String {
        Row::key_text(key)
    }

    fn parse_key(text: &str) -> Option<u64> {
        Row::parse_key(text)
    }

    fn key_of(_row: ChangedRow<'_>) -> Option<u64> {
        None
    }

    fn version(row: &Row) -> i64 {
        Row::version(row)
    }

    fn encode(row: &Row) -> Bytes {
        Row::encode(row)
    }

    fn decode(bytes: Bytes) -> Result<Row, DecodeError> {
        Row::decode(bytes)
    }
}

impl Loader<Deaf> for Store {
    type Error = StoreDown;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Rows<Deaf>, StoreDown> {
        <Self as Loader<Row>>::load_many(self, keys).await
    }
}

/// How often checks of the first entity came to this result.
fn verified(cache: &Cache, result: &str) -> u64 {
    let stats = cache.stats();
    let entity = stats.entities.first().expect("an entity");
    entity.verified.iter().find(|(word, _)| *word == result).map_or(0, |(_, count)| *count)
}

/// Fails when a value that was served although it had changed before the bound goes unnoticed, be
/// it a row that was changed, one that was deleted, or a row that was said not to exist.
#[tokio::test]
async fn a_cache_that_hears_of_no_change_is_caught() {
    let store = Store::new().await;
    let redis = RedisPool::new(&redis_config(&redis_url(), &redis_prefix())).expect("settings");
    let cache = Cache::new(&config(), store.postgres(), redis);
    let rows: EntityCache<Deaf, Store> = cache.entity(&entity_config(), store.clone());
    store.put(1, "old").await;
    store.put(2, "doomed").await;
    let read =
        async |key: u64| rows.get(&key, Consistency::Bounded(BOUND)).await.expect("answered");
    // Until the tail runs, nothing is trusted for longer than the bound.
    for (key, served) in [(1, Outcome::HitL1), (2, Outcome::HitL1), (3, Outcome::NegativeL1)] {
        eventually("it is cached", async || {
            read(key).await;
            tokio::time::sleep(BOUND).await;
            read(key).await.outcome == served
        })
        .await;
    }
    let mut caught = Vec::new();
    for key in [1, 2, 3] {
        let before = verified(&cache, "stale");
        if key == 2 {
            store.delete(key).await;
        } else {
            store.put(key, "new").await;
        }
        eventually("the stale value is noticed", async || {
            read(key).await;
            verified(&cache, "stale") > before
        })
        .await;
        caught.push(key);
    }
    report(&format!("stale hits noticed of rows {caught:?}"));
}

/// Fails when a check calls something stale that was fresh enough when it was served.
#[tokio::test]
async fn a_coherent_cache_under_load_raises_no_alarm() {
    const KEYS: u64 = 8;
    const CHANGES: u64 = 400;
    let store = Store::new().await;
    let prefix = redis_prefix();
    let [a, b] =
        [(); 2].map(|()| Replica::with(&redis_url(), &prefix, &store, &config(), &entity_config()));
    let writes = async {
        for change in 0..CHANGES {
            let key = change % KEYS;
            if change % 5 == 4 {
                store.delete(key).await;
            } else {
                store.put(key, &format!("change {change}")).await;
            }
        }
    };
    let reads = async {
        loop {
            for key in 0..KEYS {
                a.rows.get(&key, Consistency::Bounded(BOUND)).await.expect("answered");
                b.rows.get(&key, Consistency::Bounded(BOUND)).await.expect("answered");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = writes => {}
        () = reads => {}
    }
    let counts = |result: &str| verified(&a.cache, result) + verified(&b.cache, result);
    let checked = || counts("confirmed") + counts("changed") + counts("stale");
    eventually("enough hits are checked", async || {
        for key in 0..KEYS {
            a.get_with(key, Consistency::Bounded(BOUND)).await;
        }
        checked() >= 100
    })
    .await;
    report(&format!(
        "{} hits checked during {CHANGES} changes: {} as served, {} changed since, {} stale",
        checked(),
        counts("confirmed"),
        counts("changed"),
        counts("stale")
    ));
    assert_eq!(counts("stale"), 0);
}
