//! What is counted for a whole process, so that each of these tests runs while no other does:
//! operations of connection pools, allocations, encodings. On a real Redis and a real Postgres.

mod brownout;
mod burst;
mod hits;
mod memory;

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{Cache, ChangedRow, Consistency, DecodeError, Entity, EntityCache, Loader};
use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_redis::RedisPool;
use forebay_testkit::{PrivateRedis, TestDatabase, redis_config};
use tokio::sync::{Mutex, MutexGuard};

const HOUR: Duration = Duration::from_secs(3600);
const BOUNDED: Consistency = Consistency::Bounded(HOUR);

/// Keys are numbers, and each has a row.
#[derive(Debug)]
struct Number;

impl Entity for Number {
    type Key = i64;
    type Value = i64;
    const NAME: &'static str = "number";
    const SOURCE: &'static str = "number";
    const SCHEMA: u16 = 1;

    fn key_text(key: &i64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<i64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<i64> {
        row.key.parse().ok()
    }

    fn version(_value: &i64) -> i64 {
        1
    }

    fn encode(value: &i64) -> Bytes {
        ENCODED.fetch_add(1, SeqCst);
        value.to_string().into()
    }

    fn decode(bytes: Bytes) -> Result<i64, DecodeError> {
        let text = str::from_utf8(&bytes).map_err(DecodeError::because)?;
        text.parse().map_err(DecodeError::because)
    }
}

const SELECT: Sql = Sql::new("SELECT numbers", "SELECT unnest($1::bigint[])");

/// Reads numbers from Postgres.
struct Numbers(PgPool);

/// Encodings of numbers so far.
static ENCODED: AtomicUsize = AtomicUsize::new(0);
/// Loads under way, and the most that ever were.
static LOADS: AtomicUsize = AtomicUsize::new(0);
static LOADS_PEAK: AtomicUsize = AtomicUsize::new(0);

impl Loader<Number> for Numbers {
    type Error = PgError;

    async fn load_many(&self, keys: Vec<i64>) -> Result<Vec<(i64, i64)>, PgError> {
        LOADS_PEAK.fetch_max(LOADS.fetch_add(1, SeqCst) + 1, SeqCst);
        let rows = self.0.query(&SELECT, &[&keys]).await;
        LOADS.fetch_sub(1, SeqCst);
        let rows = rows?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(0))).collect())
    }
}

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

fn cache_config(l2_timeout: Duration) -> CacheConfig {
    CacheConfig {
        l1_bytes_max: 16 << 20,
        l1_negative_bytes_max: 1 << 20,
        l2_timeout,
        staleness_max: HOUR,
        outbox_interval: Duration::from_millis(250),
        lease_ttl: Duration::from_secs(2),
        lease_wait: Duration::from_millis(50),
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

/// One process of a service with servers of its own. While it lives no other test runs.
struct Rig {
    numbers: EntityCache<Number, Numbers>,
    server: PrivateRedis,
    _cache: Cache,
    database: TestDatabase,
    _alone: MutexGuard<'static, ()>,
}

impl Rig {
    /// A rig whose L2 is in use.
    async fn start(l2_timeout: Duration) -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        // The instruments of the first test count for all of them.
        burst::install();
        let server = PrivateRedis::start();
        let database = forebay_testkit::database().await;
        let redis = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
        let cache = Cache::new(&cache_config(l2_timeout), database.pool(), redis.clone());
        let numbers = cache.entity::<Number, _>(&entity_config(), Numbers(database.pool()));
        // L2 is in use as soon as a fill arrives there.
        let mut probe = -1;
        while redis.shared().get(&format!("cache:number:1:{probe}")).await.expect("get").is_none() {
            probe -= 1;
            numbers.get(&probe, BOUNDED).await.expect("answered");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Self { numbers, server, _cache: cache, database, _alone: alone }
    }
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the log of the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
