//! Bursts of misses of different keys, on a real Redis and a real Postgres: how many round trips
//! they cost, counted by the instruments of both connection pools.
//!
//! A process of its own, because instruments are global.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{Cache, ChangedRow, Consistency, DecodeError, Entity, EntityCache, Loader};
use forebay_config::{CacheConfig, EntityCacheConfig};
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_redis::RedisPool;
use forebay_testkit::{PrivateRedis, redis_config};
use futures_util::future::join_all;
use opentelemetry::{Value, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use tokio::sync::Barrier;

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
        value.to_string().into()
    }

    fn decode(bytes: Bytes) -> Result<i64, DecodeError> {
        let text = str::from_utf8(&bytes).map_err(DecodeError::because)?;
        text.parse().map_err(DecodeError::because)
    }
}

const SELECT: Sql = Sql::new("SELECT numbers", "SELECT unnest($1::bigint[])");

struct Numbers(PgPool);

impl Loader<Number> for Numbers {
    type Error = PgError;

    async fn load_many(&self, keys: Vec<i64>) -> Result<Vec<(i64, i64)>, PgError> {
        let rows = self.0.query(&SELECT, &[&keys]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(0))).collect())
    }
}

/// Operations of a database client since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Operations {
    sql: u64,
    redis: u64,
    mget: u64,
}

struct Counters {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
}

impl Counters {
    fn install() -> Self {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
        global::set_meter_provider(provider.clone());
        Self { exporter, provider }
    }

    /// Each request counts once, however many commands its pipeline has.
    fn operations(&self) -> Operations {
        self.provider.force_flush().expect("the exporter runs");
        let exported = self.exporter.get_finished_metrics().expect("the exporter runs");
        self.exporter.reset();
        let mut counted = Operations { sql: 0, redis: 0, mget: 0 };
        let scopes = exported.last().expect("something was recorded").scope_metrics();
        for metric in scopes.flat_map(|scope| scope.metrics()) {
            let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
                continue;
            };
            if metric.name() != "db.client.operation.duration" {
                continue;
            }
            for point in histogram.data_points() {
                let is = |key: &str, value: &'static str| {
                    let value = Value::from(value);
                    point.attributes().any(|one| one.key.as_str() == key && one.value == value)
                };
                if is("db.system.name", "redis") {
                    // Signs of life go on all the time.
                    if !is("db.operation.name", "PING") {
                        counted.redis += point.count();
                    }
                    if is("db.operation.name", "MGET") {
                        counted.mget += point.count();
                    }
                } else if is("db.query.summary", SELECT.summary()) {
                    counted.sql += point.count();
                }
            }
        }
        counted
    }
}

fn entity_config() -> EntityCacheConfig {
    EntityCacheConfig {
        ttl: HOUR,
        negative_ttl: HOUR,
        value_bytes_max: 4096,
        loads_max: 8,
        loads_waiting_keys_max: 8192,
    }
}

async fn settled(counters: &Counters) -> Operations {
    // Fills go on after the answer. Nothing else asks, so two equal readings are the end.
    let mut before = counters.operations();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = counters.operations();
        if now == before {
            return now;
        }
        before = now;
    }
}

/// Asks for 1,000 keys, each from a task of its own, all at the same time.
async fn burst(numbers: &EntityCache<Number, Numbers>, from: i64) {
    let barrier = Arc::new(Barrier::new(1000));
    let callers = (from..from + 1000).map(|key| {
        let (numbers, barrier) = (numbers.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            let found = numbers.get(&key, BOUNDED).await.expect("answered");
            assert_eq!(found.value.expect("exists").value, key);
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("task");
    }
}

/// Fails if each miss asks Redis or Postgres for itself, with Redis (the first collector) and
/// without it (the second).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_distinct_misses_cost_a_handful_of_round_trips() {
    let counters = Counters::install();
    let server = PrivateRedis::start();
    let database = forebay_testkit::database().await;
    let redis = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let config = CacheConfig {
        l1_bytes_max: 16 << 20,
        l2_timeout: Duration::from_secs(5),
        staleness_max: HOUR,
        outbox_interval: Duration::from_millis(250),
        token: entity_config(),
        pool: entity_config(),
    };
    let cache = Cache::new(&config, database.pool(), redis.clone());
    let numbers = cache.entity::<Number, _>(&entity_config(), Numbers(database.pool()));
    // L2 is in use as soon as a fill arrives there.
    let mut probe = -1;
    while redis.shared().get(&format!("cache:number:{probe}")).await.expect("get").is_none() {
        probe -= 1;
        numbers.get(&probe, BOUNDED).await.expect("answered");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Every connection that Postgres needs is open, and every script is loaded.
    let warm: Vec<i64> = (1_000_000..1_000_100).collect();
    join_all(warm.iter().map(|key| numbers.get(key, Consistency::Strict))).await;

    let before = settled(&counters).await;
    let keys: Vec<i64> = (0..100).collect();
    let found = numbers.get_many(&keys, BOUNDED).await.expect("answered");
    assert!(found.iter().all(|found| found.value.is_some()));
    let after = settled(&counters).await;
    let (sql, of_redis) = (after.sql - before.sql, after.redis - before.redis);
    report(&format!("get_many of 100 missing keys: {sql} SQL, {of_redis} Redis round trips"));
    assert_eq!((sql, after.mget - before.mget), (1, 1));
    assert!(of_redis <= 3, "{of_redis}: one MGET, at most one batch of leases, one of fills");

    for round in 1..=5 {
        let before = settled(&counters).await;
        burst(&numbers, round * 1000).await;
        let after = settled(&counters).await;
        let (sql, of_redis) = (after.sql - before.sql, after.redis - before.redis);
        report(&format!("1,000 distinct misses: {sql} SQL, {of_redis} Redis round trips"));
        assert!((1..=8).contains(&sql), "{sql} SQL for 1,000 misses");
        assert!((1..=8).contains(&of_redis), "{of_redis} Redis round trips for 1,000 misses");
    }

    server.kill();
    let before = settled(&counters).await;
    burst(&numbers, 100_000).await;
    let sql = settled(&counters).await.sql - before.sql;
    report(&format!("1,000 distinct misses without Redis: {sql} SQL"));
    assert!((1..=8).contains(&sql), "{sql} SQL for 1,000 misses");
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the log of the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
