//! Bursts of misses of different keys: how many round trips they cost, counted by the instruments
//! of both connection pools.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use forebay_cache::{Cache, Consistency, EntityCache, Outcome};
use forebay_redis::RedisPool;
use forebay_testkit::redis_config;
use futures_util::future::join_all;
use opentelemetry::{Value, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use tokio::sync::Barrier;

use crate::{BOUNDED, Number, Numbers, Rig, SELECT, cache_config, entity_config, report};

/// Operations of a database client since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operations {
    pub(crate) sql: u64,
    pub(crate) redis: u64,
    pub(crate) mget: u64,
}

struct Counters {
    exporter: InMemoryMetricExporter,
    provider: SdkMeterProvider,
}

/// Must be called before the first connection pool is made.
pub(crate) fn install() {
    LazyLock::force(&COUNTERS);
}

static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
    let exporter = InMemoryMetricExporter::default();
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter.clone()).build();
    global::set_meter_provider(provider.clone());
    Counters { exporter, provider }
});

/// What was counted so far.
pub(crate) fn operations() -> Operations {
    COUNTERS.operations()
}

impl Counters {
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

async fn settled() -> Operations {
    // Fills go on after the answer. Nothing else asks, so two equal readings are the end.
    let mut before = operations();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = operations();
        if now == before {
            return now;
        }
        before = now;
    }
}

/// Asks for 1,000 keys, each from a task of its own, all at the same time.
pub(crate) async fn burst(numbers: &EntityCache<Number, Numbers>, from: i64) {
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
    let rig = Rig::start(Duration::from_secs(5)).await;
    let numbers = &rig.numbers;
    // Every connection that Postgres needs is open, and every script is loaded.
    let warm: Vec<i64> = (1_000_000..1_000_100).collect();
    join_all(warm.iter().map(|key| numbers.get(key, Consistency::Strict))).await;

    let before = settled().await;
    let keys: Vec<i64> = (0..100).collect();
    let found = numbers.get_many(&keys, BOUNDED).await.expect("answered");
    assert!(found.iter().all(|found| found.value.is_some()));
    let after = settled().await;
    let (sql, of_redis) = (after.sql - before.sql, after.redis - before.redis);
    report(&format!("get_many of 100 missing keys: {sql} SQL, {of_redis} Redis round trips"));
    assert_eq!((sql, after.mget - before.mget), (1, 1));
    assert!(of_redis <= 3, "{of_redis}: one MGET, at most one batch of leases, one of fills");

    let (mut sqls, mut round_trips) = (Vec::new(), Vec::new());
    for round in 1..=5 {
        let before = settled().await;
        burst(numbers, round * 1000).await;
        let after = settled().await;
        let (sql, of_redis) = (after.sql - before.sql, after.redis - before.redis);
        report(&format!("1,000 distinct misses: {sql} SQL, {of_redis} Redis round trips"));
        sqls.push(sql);
        round_trips.push(of_redis);
    }
    // On a busy machine the callers come in several waves now and then.
    for (what, mut counts) in [("SQL", sqls), ("Redis round trips", round_trips)] {
        counts.sort_unstable();
        assert!((1..=8).contains(&counts[2]), "{counts:?} {what} for 1,000 misses");
        assert!(counts[4] <= 24, "{counts:?} {what} for 1,000 misses");
    }

    rig.server.kill();
    let before = settled().await;
    burst(numbers, 100_000).await;
    let sql = settled().await.sql - before.sql;
    report(&format!("1,000 distinct misses without Redis: {sql} SQL"));
    assert!((1..=8).contains(&sql), "{sql} SQL for 1,000 misses");
}

/// Fails if each read of a key that L2 has is a command of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_distinct_hits_in_l2_share_a_handful_of_commands() {
    const ROUNDS: i64 = 5;
    let l2_timeout = Duration::from_secs(5);
    let rig = Rig::start(l2_timeout).await;
    for round in 1..=ROUNDS {
        let keys: Vec<i64> = (round * 1000..(round + 1) * 1000).collect();
        rig.numbers.get_many(&keys, BOUNDED).await.expect("answered");
    }
    settled().await;

    // Another process, whose memory is empty.
    let redis = RedisPool::new(&redis_config(&rig.server.url(), "")).expect("settings");
    let cache = Cache::new(&cache_config(l2_timeout), rig.database.pool(), redis);
    let numbers = cache.entity::<Number, _>(&entity_config(), Numbers(rig.database.pool()));
    let mut probe = 1_000_000;
    loop {
        // Once by each, so that it is in L2 when the other one asks.
        rig.numbers.get(&probe, BOUNDED).await.expect("answered");
        settled().await;
        if numbers.get(&probe, BOUNDED).await.expect("answered").outcome == Outcome::HitL2 {
            break;
        }
        probe += 1;
    }

    let mut commands = Vec::new();
    for round in 1..=ROUNDS {
        let before = settled().await;
        burst(&numbers, round * 1000).await;
        let after = settled().await;
        let mget = after.mget - before.mget;
        report(&format!("1,000 distinct hits in L2: {mget} commands"));
        assert_eq!(after.sql, before.sql, "all of them are in L2");
        commands.push(mget);
    }
    commands.sort_unstable();
    // On a busy machine the callers come in several waves now and then.
    let (median, most) = (commands[2], commands[4]);
    assert!(median <= 8 && most <= 24, "{commands:?} commands for 1,000 hits in L2");
}
