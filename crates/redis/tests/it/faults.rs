//! What callers see while the server is down, hangs, restarts or refuses.

use std::error::Error;
use std::time::Duration;

use forebay_config::{RedisConfig, Secret};
use forebay_pooling::Deadline;
use forebay_redis::{Command, RedisError, RedisPool, Reply, Script, ScriptCall};
use forebay_testkit::{PrivateRedis, redis_config};

use crate::eventually;

const HOUR: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(150);

fn increment() -> (Script, ScriptCall) {
    let script = Script::new("increment", "return redis.call('INCR', KEYS[1])");
    (script, ScriptCall::new().key("n"))
}

#[tokio::test]
async fn a_dead_server_is_told_with_its_cause_and_a_new_one_is_used() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    server.kill();
    let shared = pool.shared();
    let error = shared.get("k").await.expect_err("there is no server");
    assert!(matches!(error, RedisError::Unreachable { .. }), "{error:?}");
    assert!(error.is_unavailable());
    let cause = error.source().expect("the cause is kept").to_string();
    assert!(!error.to_string().contains(&cause), "the message repeats its cause: {error}");
    let lease = Deadline::after(SHORT).scope(pool.dedicated()).await;
    assert!(matches!(lease, Err(RedisError::Unreachable { source: Some(_), .. })), "{lease:?}");
    server.restart();
    eventually("the lane comes back", async || shared.get("k").await.is_ok()).await;
    pool.dedicated().await.expect("leases come back");
}

#[tokio::test]
async fn a_restart_is_survived() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let shared = pool.shared();
    shared.set_px("k", "v", HOUR).await.expect("set");
    let replaced = pool.replaced_connections();
    server.kill();
    server.restart();
    // The read is repeated by the pool itself until the new server answers.
    assert!(shared.get("k").await.is_ok());
    assert!(pool.replaced_connections() > replaced, "the outage can be seen afterwards");
    assert!(pool.stats().reconnects >= 1);
}

/// The counter would be three if the command had been sent again.
#[tokio::test]
async fn a_command_that_counts_is_not_sent_again() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let (script, call) = increment();
    // Once, so that the server knows the script.
    pool.shared().eval(&script, &call).await.expect("eval");
    server.stop();
    let short = pool.shared().with_timeout(SHORT);
    let error = short.eval(&script, &call).await.expect_err("the server hangs");
    assert!(matches!(error, RedisError::UnknownOutcome { .. }), "{error:?}");
    let error = short.get("n").await.expect_err("the server hangs");
    assert!(matches!(error, RedisError::Timeout { .. }), "{error:?}");
    server.cont();
    let count = async || pool.shared().get("n").await.ok().flatten();
    eventually("the script ran", async || !matches!(count().await.as_deref(), None | Some(b"1")))
        .await;
    assert_eq!(count().await, Some("2".into()));
    let stats = pool.stats();
    assert_eq!((stats.unknown_outcomes, stats.timeouts >= 2), (1, true), "{stats:?}");
}

/// The connection is lost with the command on it. Fails if the command is sent again on the next
/// one, which would answer it.
#[tokio::test]
async fn a_command_that_counts_is_not_sent_again_on_the_next_connection() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let (script, call) = increment();
    pool.shared().eval(&script, &call).await.expect("eval");
    server.stop();
    let shared = pool.shared().with_timeout(HOUR);
    let counting = tokio::spawn(async move { shared.eval(&script, &call).await });
    eventually("it is sent", async || pool.stats().command_queue_length == 1).await;
    server.kill();
    server.restart();
    let answer = counting.await.expect("task");
    assert!(matches!(answer, Err(RedisError::UnknownOutcome { .. })), "{answer:?}");
    assert_eq!(pool.stats().retries, 0);
}

/// What was never sent is sent once there is a connection, whatever it is.
#[tokio::test]
async fn a_command_that_counts_waits_for_a_connection() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    server.stop();
    let counting = tokio::spawn({
        let shared = pool.shared().with_timeout(HOUR);
        let (script, call) = increment();
        async move { shared.eval(&script, &call).await }
    });
    eventually("it waits", async || pool.stats().offline_queue_length == 1).await;
    assert!(pool.stats().offline_queue_bytes > 0);
    server.cont();
    assert_eq!(counting.await.expect("task").expect("counted"), Reply::Int(1));
    let stats = pool.stats();
    assert_eq!((stats.retries, stats.offline_queue_length, stats.offline_queue_bytes), (0, 0, 0));
}

/// Fails when retries are free: a server that has just come back would get everything again.
#[tokio::test]
async fn retries_have_a_budget() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    pool.ready().await.expect("ready");
    server.stop();
    let shared = pool.shared().with_timeout(HOUR);
    let mut reads = Vec::new();
    // One after the other, so that each is sent by itself, and is lost with the connection.
    for sent in 1..=16 {
        let shared = shared.clone();
        reads.push(tokio::spawn(async move { shared.get("k").await }));
        eventually("it is sent", async || pool.stats().command_queue_length == sent).await;
    }
    server.kill();
    server.restart();
    let mut failed = 0;
    for read in reads {
        failed += usize::from(read.await.expect("task").is_err());
    }
    let denied = pool.stats().retries_denied;
    assert!(denied >= 6, "{denied} of 16 denied; the budget is 10");
    assert!(failed >= 6, "{failed} failed");
}

/// Without the supervisor's probe the lanes would keep the silent connection for ever.
#[tokio::test]
async fn a_silent_connection_is_replaced() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    pool.ready().await.expect("ready");
    server.stop();
    let short = pool.shared().with_timeout(SHORT);
    eventually("the lane is given up", async || {
        assert!(short.get("k").await.is_err());
        pool.stats().reconnects > 0
    })
    .await;
    server.cont();
    eventually("the lane comes back", async || pool.shared().get("k").await.is_ok()).await;
}

#[tokio::test]
async fn the_nearer_deadline_wins() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    pool.ready().await.expect("ready");
    server.stop();
    let far = pool.shared().with_timeout(HOUR);
    let answer = Deadline::after(SHORT).scope(far.get("k")).await;
    assert!(matches!(answer, Err(RedisError::Timeout { .. })), "{answer:?}");
    server.cont();
}

#[tokio::test]
async fn a_full_offline_queue_sheds() {
    let server = PrivateRedis::start();
    let config = RedisConfig { offline_queue_max: 1, ..redis_config(&server.url(), "") };
    server.stop();
    let pool = RedisPool::new(&config).expect("settings");
    let shared = pool.shared().with_timeout(HOUR);
    let first = tokio::spawn({
        let shared = shared.clone();
        async move { shared.get("k").await }
    });
    eventually("one command waits", async || pool.stats().offline_queue_length == 1).await;
    let second = shared.get("k").await;
    assert!(matches!(second, Err(RedisError::Shed { waiting: 1, .. })), "{second:?}");
    assert_eq!(pool.stats().shed, 1);
    server.cont();
    assert_eq!(first.await.expect("task").expect("answered once connected"), None);
}

#[tokio::test]
async fn refused_credentials_are_told_at_once() {
    let server = PrivateRedis::start();
    let open = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let protect = Command::new("CONFIG").arg("SET").arg("requirepass").arg("correct");
    let mut lease = open.dedicated().await.expect("lease");
    lease.call(&protect, HOUR).await.expect("protect");
    let url = |user: &str| server.url().replace("redis://", &format!("redis://{user}"));
    for wrong in ["", "default:wrong@"] {
        let config = RedisConfig {
            url: Secret::new(url(wrong)),
            command_timeout: HOUR,
            ..redis_config("", "")
        };
        let pool = RedisPool::new(&config).expect("settings");
        let error = pool.shared().ping().await.expect_err("no access");
        assert!(matches!(error, RedisError::Auth { .. }), "{error:?}");
        assert!(!error.is_unavailable());
        let error = pool.dedicated().await.expect_err("no access");
        assert!(matches!(error, RedisError::Auth { .. }), "{error:?}");
    }
    let config = RedisConfig { url: Secret::new(url("default:correct@")), ..redis_config("", "") };
    RedisPool::new(&config).expect("settings").ready().await.expect("access");
}

#[tokio::test]
async fn a_url_of_something_else_is_refused() {
    let config = redis_config("http://127.0.0.1:80", "");
    assert!(matches!(RedisPool::new(&config), Err(RedisError::Config(_))));
}
