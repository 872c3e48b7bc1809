//! A cache without a server, for tests that move the clock: L1 is filled from a loader alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};
use forebay_postgres::PgPool;
use forebay_redis::RedisPool;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::chance::Chance;
use crate::{Cache, ChangedRow, DecodeError, Entity, EntityCache, Loader, WallClock};

/// Time to live of the entries.
pub(crate) const TTL: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// How long a load takes.
pub(crate) const LOAD: Duration = Duration::from_millis(5);

/// Keys are numbers.
pub(crate) struct Number;

impl Entity for Number {
    type Key = u64;
    type Value = ();
    const NAME: &'static str = "number";
    const SOURCE: &'static str = "number";
    const SCHEMA: u16 = 1;

    fn key_text(key: &u64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        row.key.parse().ok()
    }

    fn version((): &()) -> i64 {
        1
    }

    fn encode((): &()) -> Bytes {
        Bytes::new()
    }

    fn decode(_bytes: Bytes) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Every number exists, and takes a while to be found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers(pub(crate) Arc<Counts>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    loads: AtomicUsize,
    under_way: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    pub(crate) fails: AtomicBool,
}

impl Loader<Number> for Numbers {
    type Error = DecodeError;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Vec<(u64, ())>, DecodeError> {
        self.0.loads.fetch_add(1, SeqCst);
        self.0.peak.fetch_max(self.0.under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::time::sleep(LOAD).await;
        self.0.under_way.fetch_sub(1, SeqCst);
        if self.0.fails.load(SeqCst) {
            return Err(DecodeError::new());
        }
        Ok(keys.into_iter().map(|key| (key, ())).collect())
    }
}

impl Numbers {
    /// Calls of the loader so far.
    pub(crate) fn loads(&self) -> usize {
        self.0.loads.load(SeqCst)
    }
}

/// The settings.
pub(crate) fn config(refresh_beta: f64) -> (CacheConfig, EntityCacheConfig) {
    let entity = EntityCacheConfig {
        ttl: TTL,
        negative_ttl: TTL,
        value_bytes_max: 4096,
        stale_max: Duration::ZERO,
        loads_max: 4,
        loads_waiting_keys_max: 20_000,
    };
    let list = ListCacheConfig {
        l1_bytes_max: 1 << 20,
        ttl: TTL,
        stale_max: Duration::ZERO,
        page_bytes_max: 4096,
        loads_max: 8,
        loads_waiting_max: 64,
        calm: Duration::ZERO,
    };
    let cache = CacheConfig {
        l1_bytes_max: 64 << 20,
        l1_negative_bytes_max: 1 << 20,
        l2_timeout: Duration::from_millis(30),
        staleness_max: HOUR,
        outbox_interval: HOUR,
        lease_ttl: Duration::from_secs(2),
        lease_wait: Duration::from_millis(50),
        refresh_beta,
        ttl_jitter: 0.2,
        warm_up_keys: 0,
        warm_up_timeout: Duration::from_secs(2),
        verify_share: 0.0,
        verified_per_second_max: 1,
        token: entity.clone(),
        pool: entity.clone(),
        list,
    };
    (cache, entity)
}

/// A cache whose every draw is known from a seed.
pub(crate) fn cache(
    (config, entity): &(CacheConfig, EntityCacheConfig),
    numbers: &Numbers,
) -> EntityCache<Number, Numbers> {
    // Nobody listens there.
    let url = "postgres://nobody@127.0.0.1:9/nothing";
    let postgres = PgPool::new(&forebay_testkit::postgres_config(url), "test").expect("a url");
    let redis = forebay_testkit::redis_config("redis://127.0.0.1:9", "");
    let redis = RedisPool::new(&redis).expect("settings");
    let rng = Mutex::new(SmallRng::seed_from_u64(7));
    let chance = Chance::new(move || rng.lock().random());
    Cache::with_chance(config, postgres, redis, WallClock::default(), chance)
        .entity(entity, numbers.clone())
}
