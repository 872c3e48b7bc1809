//! What an operator is told, by a process with a real Postgres, Redis and cache.

mod cache;
mod readiness;
mod troubleshooting;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use forebay_boot::{Process, Readiness, Shutdown};
use forebay_cache::{Cache, ChangedRow, DecodeError, Entity, EntityCache, Loader};
use forebay_config::{
    CacheConfig, EntityCacheConfig, ListCacheConfig, LogFormat, Secret, Setting, Source,
    TelemetryConfig,
};
use forebay_ops::{DOMAIN, OpsService};
use forebay_postgres::PgPool;
use forebay_proto::ops::v1::ops_service_server::OpsService as _;
use forebay_proto::ops::v1::*;
use forebay_redis::{Event, RedisPool, Script, ScriptCall};
use forebay_testkit::{
    PrivatePostgres, PrivateReplica, TestDatabase, postgres_config, redis_config, redis_prefix,
    redis_url,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// Numbers and their doubles; 13 has none.
struct Doubles;

impl Entity for Doubles {
    type Key = u32;
    type Value = u32;
    const NAME: &'static str = "double";
    const SOURCE: &'static str = "double";
    const SCHEMA: u16 = 1;

    fn key_text(key: &u32) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u32> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u32> {
        row.key.parse().ok()
    }

    fn version(value: &u32) -> i64 {
        i64::from(*value)
    }

    fn encode(value: &u32) -> Bytes {
        Bytes::copy_from_slice(&value.to_be_bytes())
    }

    fn decode(bytes: Bytes) -> Result<u32, DecodeError> {
        let bytes = bytes.as_ref().try_into().map_err(DecodeError::because)?;
        Ok(u32::from_be_bytes(bytes))
    }
}

impl Loader<Doubles> for Doubles {
    type Error = Infallible;

    async fn load_many(&self, keys: Vec<u32>) -> Result<forebay_cache::Rows<Doubles>, Infallible> {
        Ok(keys.into_iter().filter(|key| *key != 13).map(|key| (key, key * 2)).collect())
    }
}

struct Setup {
    ops: OpsService,
    doubles: EntityCache<Doubles, Doubles>,
    _database: TestDatabase,
    /// Kept because the log filter lives in it.
    _telemetry: (forebay_telemetry::Telemetry, tracing::Dispatch),
}

fn telemetry() -> (forebay_telemetry::Telemetry, tracing::Dispatch) {
    let config = TelemetryConfig {
        otlp_endpoint: None,
        sample_ratio: 0.0,
        span_queue_max: 10,
        flush_timeout: Duration::from_secs(1),
        log_filter: "info".to_owned(),
        log_format: LogFormat::Text,
    };
    forebay_telemetry::build(&config, "ops-test").expect("valid settings")
}

async fn setup() -> Setup {
    let telemetry = telemetry();
    let setting = |key: &str, value: &str| Setting {
        key: key.to_owned(),
        value: value.to_owned(),
        source: Source::Default,
    };
    let process = Process {
        service: "ops-test",
        shutdown: Shutdown::new(),
        readiness: Readiness::new(),
        settings: [setting("redis.url", "[redacted]"), setting("cache.l1_bytes_max", "1")].into(),
        telemetry: telemetry.0.handle(),
    };
    // The cache reads the outbox.
    let database = forebay_testkit::database().await;
    let postgres = PgPool::new(&postgres_config(database.url()), "ops-test").expect("settings");
    postgres.ready().await.expect("Postgres runs");
    let redis = RedisPool::new(&redis_config(&redis_url(), &redis_prefix())).expect("settings");
    redis.ready().await.expect("Redis runs");
    let entity = EntityCacheConfig {
        ttl: Duration::from_secs(60),
        negative_ttl: Duration::from_secs(10),
        value_bytes_max: 100,
        stale_max: Duration::from_secs(600),
        loads_max: 8,
        loads_waiting_keys_max: 8192,
    };
    let config = CacheConfig {
        l1_bytes_max: 1 << 20,
        l1_negative_bytes_max: 1 << 20,
        l2_timeout: Duration::from_secs(5),
        staleness_max: Duration::from_secs(60),
        outbox_interval: Duration::from_millis(250),
        lease_ttl: Duration::from_secs(2),
        lease_wait: Duration::from_millis(50),
        refresh_beta: 1.0,
        ttl_jitter: 0.2,
        warm_up_keys: 1000,
        warm_up_timeout: Duration::from_secs(2),
        verify_share: 0.001,
        verified_per_second_max: 10,
        token: entity.clone(),
        pool: entity.clone(),
        list: ListCacheConfig {
            l1_bytes_max: 16 << 20,
            ttl: Duration::from_secs(3600),
            stale_max: Duration::from_secs(600),
            page_bytes_max: 1 << 20,
            loads_max: 8,
            loads_waiting_max: 1024,
            calm: Duration::ZERO,
        },
    };
    let cache = Cache::new(&config, postgres.clone(), redis.clone());
    let doubles = cache.entity(&entity, Doubles);
    let ops = OpsService::new(&process).postgres(&postgres).redis(&redis).cache(&cache);
    Setup { ops, doubles, _database: database, _telemetry: telemetry }
}

#[tokio::test]
async fn shows_every_connection_pool() {
    let setup = setup().await;
    let request = Request::new(GetConnectionPoolsRequest {});
    let pools = setup.ops.get_connection_pools(request).await.expect("an answer").into_inner();
    let [postgres] = pools.postgres.as_slice() else { panic!("one, not {pools:?}") };
    assert!(!postgres.name.is_empty());
    assert!((1..=postgres.max_connections).contains(&postgres.connections), "{postgres:?}");
    // The cache asks for changes now and then.
    assert!(postgres.in_use_connections <= 1, "{postgres:?}");
    assert_eq!(postgres.live_max_connections, postgres.max_connections);
    let queues: Vec<_> = postgres.priorities.iter().map(|queue| queue.priority.as_str()).collect();
    assert_eq!(queues, ["admin", "interactive", "batch"]);
    let breaker = postgres.breaker.as_ref().expect("a breaker");
    assert_eq!((breaker.state.as_str(), breaker.last_cause.as_str()), ("closed", ""));
    assert_eq!(postgres.oldest_wait, None);
    assert_eq!(postgres.mode, "direct");
    assert!(postgres.closed_by_reason.iter().any(|closed| closed.reason == "lifetime"));
    let [redis] = pools.redis.as_slice() else { panic!("one, not {pools:?}") };
    assert!(redis.connected, "{redis:?}");
    assert_eq!(redis.status, "ready");
    assert_eq!(redis.lanes.len(), 2, "{redis:?}");
    assert!(redis.lanes.iter().any(|lane| lane.status == "ready"), "{redis:?}");
    assert!(redis.command_queue_max > 0 && redis.offline_queue_max > 0, "{redis:?}");
    assert_eq!(redis.dedicated.as_ref().expect("always").max_connections, 4);
    // The cache listens for invalidations.
    assert_eq!(redis.subscriptions, 0, "{redis:?}");
}

/// Fails when what waits for a slow consumer is not shown, or still shown when it was read.
#[tokio::test]
async fn shows_what_waits_for_a_subscriber() {
    let redis = RedisPool::new(&redis_config(&redis_url(), &redis_prefix())).expect("settings");
    let mut subscription = redis.subscribe("news");
    let setup = setup().await;
    let ops = setup.ops.redis(&redis);
    let shown = async || {
        let request = Request::new(GetConnectionPoolsRequest {});
        let pools = ops.get_connection_pools(request).await.expect("an answer").into_inner();
        pools.redis.into_iter().nth(1).expect("the second")
    };
    assert_eq!(subscription.next().await, Event::Connected);
    let publish = Script::new("publish", "return redis.call('PUBLISH', ARGV[1], ARGV[2])");
    let call = ScriptCall::new().arg(redis.prefixed("news")).arg("twelve bytes");
    redis.shared().eval(&publish, &call).await.expect("one subscriber");
    let waits = async {
        loop {
            let stats = shown().await;
            if stats.subscription_bytes > 0 {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    let stats = tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it arrives");
    assert_eq!((stats.subscriptions, stats.subscription_bytes), (1, 12), "{stats:?}");
    assert!(stats.subscription_bytes_max >= 12 && stats.subscription_events >= 1, "{stats:?}");
    while !matches!(subscription.next().await, Event::Message(_)) {}
    assert_eq!(shown().await.subscription_bytes, 0, "it was read");
}

/// Who holds the only connection, who waits behind, and why a server away is away.
#[tokio::test]
async fn shows_who_holds_and_who_waits() {
    let url = std::env::var("FOREBAY_TEST_POSTGRES_URL").expect("run `cargo xtask test`");
    let mut config = postgres_config(&url);
    config.connections_max = 1;
    let pool = PgPool::new(&config, "ops-test").expect("settings");
    let held = pool.begin().await.expect("the only connection");
    let line = format!("tests/it/main.rs:{}", line!() - 1);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.ready().await }
    });
    let setup = setup().await;
    let ops = setup.ops.postgres(&pool);
    let shown = async || {
        let request = Request::new(GetConnectionPoolsRequest {});
        let pools = ops.get_connection_pools(request).await.expect("an answer").into_inner();
        pools.postgres.into_iter().nth(1).expect("the second")
    };
    let waits = async {
        loop {
            let stats = shown().await;
            if stats.waiting == 1 {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    };
    let stats = tokio::time::timeout(Duration::from_secs(20), waits).await.expect("one waits");
    let [holder] = stats.top_holders.as_slice() else { panic!("one, not {stats:?}") };
    assert!(holder.location.ends_with(&line), "{holder:?}, not {line}");
    assert!(holder.age.is_some() && stats.oldest_wait.is_some(), "{stats:?}");
    assert_eq!(holder.priority, "interactive");
    held.rollback().await.expect("a rollback");
    waiting.await.expect("the task ends").expect("its turn");
}

/// A replica is shown by its place in the settings, once it was seen.
#[tokio::test]
async fn shows_replicas() {
    let primary = PrivatePostgres::start().await;
    let replica = PrivateReplica::of(&primary);
    let mut config = postgres_config(&primary.url());
    config.replica_urls = vec![Secret::new(replica.url())];
    let pool = PgPool::new(&config, "ops-test").expect("settings");
    let setup = setup().await;
    let ops = setup.ops.postgres(&pool);
    let seen = async {
        loop {
            let request = Request::new(GetConnectionPoolsRequest {});
            let pools = ops.get_connection_pools(request).await.expect("an answer").into_inner();
            let [replica] = pools.postgres[1].replicas.as_slice() else { panic!("{pools:?}") };
            if replica.state == "following" {
                return replica.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await.expect("it is seen");
    assert_eq!(seen.name, "replica-1");
    assert!(seen.lag_bytes.is_some(), "{seen:?}");
}

/// Fails when an address, a user or a password gets into any field, also in the middle of an
/// outage, when the cause of it is told.
#[tokio::test]
async fn shows_nothing_that_opens_a_store() {
    const HIDDEN: [&str; 4] = ["hunter2", "mallory", "forbidden-database", "127.0.0.1"];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let url = format!("postgres://mallory:hunter2@{address}/forbidden-database");
    let postgres = PgPool::new(&postgres_config(&url), "ops-test").expect("settings");
    let url = format!("redis://mallory:hunter2@{address}/0");
    let redis = RedisPool::new(&redis_config(&url, "")).expect("settings");
    postgres.ready().await.expect_err("nobody listens");
    let ready = forebay_pooling::Deadline::after(Duration::from_millis(200)).scope(redis.ready());
    ready.await.expect_err("nobody listens");
    let setup = setup().await;
    let ops = setup.ops.postgres(&postgres).redis(&redis);
    let request = Request::new(GetConnectionPoolsRequest {});
    let pools = ops.get_connection_pools(request).await.expect("an answer").into_inner();
    assert!(pools.postgres[1].connect_failures > 0, "{pools:?}");
    assert_eq!(pools.postgres[1].breaker.as_ref().expect("it").last_cause, "unreachable");
    assert!(!pools.redis[1].connected);
    assert_eq!(pools.redis[1].breaker.as_ref().expect("it").last_cause, "unreachable");
    let everything = format!("{pools:?}");
    for hidden in HIDDEN {
        assert!(!everything.contains(hidden), "{hidden} is in {everything}");
    }
}

/// Fails when the new limit does not reach the connection pool, or its bounds are not held.
#[tokio::test]
async fn resizes_a_connection_pool_within_its_setting() {
    let setup = setup().await;
    let set = async |name: &str, max_connections: u32| {
        let request = SetConnectionPoolLimitsRequest { name: name.to_owned(), max_connections };
        let reply = setup.ops.set_connection_pool_limits(Request::new(request)).await;
        reply.map(Response::into_inner)
    };
    let shown = async || {
        let request = Request::new(GetConnectionPoolsRequest {});
        let pools = setup.ops.get_connection_pools(request).await.expect("an answer").into_inner();
        (pools.postgres[0].max_connections, pools.postgres[0].live_max_connections)
    };
    assert_eq!(shown().await, (4, 4));
    let reply = set("postgres", 2).await.expect("within the setting");
    assert_eq!((reply.previous_max_connections, reply.max_connections), (4, 2));
    assert_eq!(shown().await, (2, 2));
    check_fields(&set("postgres", 0).await.expect_err("none"), &["max_connections"]);
    check_fields(&set("postgres", 5).await.expect_err("beyond"), &["max_connections"]);
    check_fields(&set("nosuch", 1).await.expect_err("unknown"), &["name"]);
    let reply = set("postgres", 4).await.expect("up to the setting");
    assert_eq!((reply.previous_max_connections, shown().await), (2, (4, 4)));
}

#[tokio::test]
async fn shows_the_settings_in_order() {
    let setup = setup().await;
    let request = Request::new(GetEffectiveConfigRequest {});
    let reply = setup.ops.get_effective_config(request).await.expect("an answer");
    let settings = reply.into_inner().settings;
    let shown: Vec<_> = settings
        .iter()
        .map(|one| (one.key.as_str(), one.value.as_str(), one.source.as_str()))
        .collect();
    let expected = [("cache.l1_bytes_max", "1", "default"), ("redis.url", "[redacted]", "default")];
    assert_eq!(shown, expected);
}

fn check_fields(status: &Status, expected: &[&str]) {
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_error_info().expect("ErrorInfo").domain, DOMAIN);
    let bad = status.get_details_bad_request().expect("BadRequest").field_violations;
    let fields: Vec<_> = bad.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn replaces_the_log_filter_or_leaves_it() {
    let setup = setup().await;
    let set = async |filter: &str| {
        let request = SetLogLevelRequest { filter: filter.to_owned() };
        setup.ops.set_log_level(Request::new(request)).await
    };
    for bad in ["", " ", "forebay=nosuchlevel"] {
        check_fields(&set(bad).await.expect_err(bad), &["filter"]);
    }
    let replaced = set("info,forebay_cache=debug").await.expect("valid").into_inner();
    assert_eq!(replaced.previous_filter, "info");
    let reply = setup.ops.get_log_level(Request::new(GetLogLevelRequest {})).await;
    assert_eq!(reply.expect("an answer").into_inner().filter, "info,forebay_cache=debug");
}
