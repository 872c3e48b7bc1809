//! The cache on a real Redis and a real Postgres, whose every answer the tests can hold up.

mod bulkhead;
mod cancelled;
mod coherence;
mod damage;
mod dataset;
mod faults;
mod killed;
mod lagging;
mod leases;
mod lists;
mod operators;
mod outage;
mod races;
mod reads;
mod refresh;
mod rolling;
mod sessions;
mod stampede;
mod store;
mod tail;
mod verifier;
mod warm_up;

use std::time::Duration;

use forebay_cache::{Cache, Consistency, EntityCache, L2State};
use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};
use forebay_redis::RedisPool;
use forebay_testkit::{redis_config, redis_prefix, redis_url};

use crate::store::{Row, Store};

const HOUR: Duration = Duration::from_secs(3600);
const BOUNDED: Consistency = Consistency::Bounded(HOUR);

fn entity_config() -> EntityCacheConfig {
    EntityCacheConfig {
        ttl: HOUR,
        negative_ttl: HOUR,
        value_bytes_max: 4096,
        stale_max: Duration::from_secs(600),
        loads_max: 8,
        loads_waiting_keys_max: 8192,
    }
}

fn cache_config() -> CacheConfig {
    CacheConfig {
        l1_bytes_max: 16 << 20,
        l1_negative_bytes_max: 1 << 20,
        // Long, so that a slow machine does not turn a hit into a load. Tests of the limit itself
        // set their own.
        l2_timeout: Duration::from_secs(5),
        staleness_max: HOUR,
        outbox_interval: Duration::from_millis(50),
        lease_ttl: Duration::from_secs(2),
        // Long for the same reason.
        lease_wait: Duration::from_secs(2),
        // Tests of it set their own.
        refresh_beta: 0.0,
        ttl_jitter: 0.2,
        warm_up_keys: 0,
        warm_up_timeout: Duration::from_secs(2),
        verify_share: 0.001,
        verified_per_second_max: 10,
        token: entity_config(),
        pool: entity_config(),
        list: ListCacheConfig {
            l1_bytes_max: 16 << 20,
            ttl: Duration::from_secs(3600),
            stale_max: Duration::from_secs(600),
            page_bytes_max: 1 << 20,
            loads_max: 8,
            loads_waiting_max: 1024,
            calm: Duration::ZERO,
        },
    }
}

/// One process of a service, as far as the cache is concerned.
struct Replica {
    cache: Cache,
    rows: EntityCache<Row, Store>,
    redis: RedisPool,
}

impl Replica {
    fn new(url: &str, prefix: &str, store: &Store) -> Self {
        Self::with(url, prefix, store, &cache_config(), &entity_config())
    }

    fn with(
        url: &str,
        prefix: &str,
        store: &Store,
        cache: &CacheConfig,
        entity: &EntityCacheConfig,
    ) -> Self {
        let redis = RedisPool::new(&redis_config(url, prefix)).expect("settings");
        let cache = Cache::new(cache, store.postgres(), redis.clone());
        let rows = cache.entity(entity, store.clone());
        Self { cache, rows, redis }
    }

    /// The value of a key, `None` if it does not exist.
    async fn get(&self, key: u64) -> Option<String> {
        self.get_with(key, BOUNDED).await
    }

    async fn get_with(&self, key: u64, consistency: Consistency) -> Option<String> {
        let lookup = self.rows.get(&key, consistency).await.expect("answered");
        lookup.value.map(|entry| entry.value.text.clone())
    }

    /// How the key was answered.
    async fn outcome(&self, key: u64) -> &'static str {
        self.rows.get(&key, BOUNDED).await.expect("answered").outcome.as_str()
    }

    /// Waits until L2 holds this version of a key.
    async fn l2_version(&self, key: u64, version: i64) {
        eventually("the version is in redis", async || {
            let inspected = self.cache.inspect("row", &key.to_string()).await;
            inspected.is_ok_and(|entry| entry.l2.is_some_and(|l2| l2.version == version))
        })
        .await;
    }

    /// Waits until L2 is in use: only then tests of it mean anything.
    async fn l2_in_use(self, store: &Store) -> Self {
        const PROBE: u64 = u64::MAX;
        store.put(PROBE, "probe").await;
        let trusted = async || self.cache.stats().l2_state == L2State::Trusted;
        eventually("redis is trusted", trusted).await;
        eventually("the cache uses redis", async || {
            self.cache.evict("row", &PROBE.to_string()).await.expect("evict");
            self.get(PROBE).await;
            let inspected = self.cache.inspect("row", &PROBE.to_string()).await;
            inspected.is_ok_and(|entry| entry.l2.is_some_and(|l2| !l2.negative))
        })
        .await;
        self
    }
}

/// Replicas on the shared server, with keys of their own, whose L2 is in use.
async fn replicas<const N: usize>(store: &Store) -> [Replica; N] {
    let prefix = redis_prefix();
    let mut replicas = Vec::new();
    for _ in 0..N {
        replicas.push(Replica::new(&redis_url(), &prefix, store).l2_in_use(store).await);
    }
    replicas.try_into().unwrap_or_else(|_| unreachable!("N were made"))
}

/// Waits until `holds`, and fails after ten seconds: for what other tasks do in their own time.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the log of the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
