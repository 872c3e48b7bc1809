//! Leases: one caller, one connection.

use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_redis::{Command, DedicatedRedis, RedisError, RedisPool, Reply};
use forebay_testkit::{PrivateRedis, redis_config, redis_url};

use crate::{eventually, pool, text};

const LONG: Duration = Duration::from_secs(30);

async fn info(lease: &mut DedicatedRedis, section: &str) -> String {
    text(&lease.call(&Command::new("INFO").arg(section), LONG).await.expect("info"))
}

async fn blocked(lease: &mut DedicatedRedis) -> bool {
    info(lease, "clients").await.lines().any(|line| line.trim_end() == "blocked_clients:1")
}

#[tokio::test]
async fn a_lease_keeps_one_connection() {
    let pool = pool();
    let mut lease = pool.dedicated().await.expect("lease");
    let id = |reply: Reply| text(&reply);
    let first = id(lease.call(&Command::new("CLIENT").arg("ID"), LONG).await.expect("id"));
    let second = id(lease.call(&Command::new("CLIENT").arg("ID"), LONG).await.expect("id"));
    assert_eq!(first, second);
    let mut other = pool.dedicated().await.expect("lease");
    let third = id(other.call(&Command::new("CLIENT").arg("ID"), LONG).await.expect("id"));
    assert_ne!(first, third, "two leases never share a connection");
    drop(lease);
    let mut again = pool.dedicated().await.expect("lease");
    let fourth = id(again.call(&Command::new("CLIENT").arg("ID"), LONG).await.expect("id"));
    assert_eq!(first, fourth, "a clean connection is used again");
    let name = Command::new("CLIENT").arg("GETNAME");
    let name = text(&again.call(&name, LONG).await.expect("name"));
    let parts: Vec<_> = name.split('/').collect();
    let own = std::process::id().to_string();
    assert_eq!((parts.len(), parts[1], parts[2]), (3, own.as_str(), "lease"), "{name}");
}

/// Without poisoning, the blocked command would still take the element, for a caller that is gone.
#[tokio::test]
async fn a_cancelled_blocking_command_takes_nothing() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "p:")).expect("settings");
    let mut watcher = pool.dedicated().await.expect("lease");
    let waiter = tokio::spawn({
        let mut lease = pool.dedicated().await.expect("lease");
        async move { lease.call(&Command::new("BLPOP").key("queue").arg("0"), LONG).await }
    });
    eventually("the command blocks", async || blocked(&mut watcher).await).await;
    pool.shared().ping().await.expect("shared commands are not held up");
    waiter.abort();
    assert!(waiter.await.expect_err("aborted").is_cancelled());
    eventually("the server forgets the caller", async || !blocked(&mut watcher).await).await;
    let push = Command::new("RPUSH").key("queue").arg("job");
    assert_eq!(watcher.call(&push, LONG).await.expect("push"), Reply::Int(1));
    let length = watcher.call(&Command::new("LLEN").key("queue"), LONG).await.expect("length");
    assert_eq!(length, Reply::Int(1), "the element was given to nobody");
}

#[tokio::test]
async fn leases_are_bounded_and_queued() {
    let server = PrivateRedis::start();
    let config =
        forebay_config::RedisConfig { dedicated_max: 2, ..redis_config(&server.url(), "") };
    let pool = RedisPool::new(&config).expect("settings");
    let first = pool.dedicated().await.expect("lease");
    let _second = pool.dedicated().await.expect("lease");
    let mut third = Box::pin(pool.dedicated());
    assert!(futures_util::poll!(&mut third).is_pending());
    let stats = pool.stats();
    assert_eq!((stats.dedicated_connections, stats.dedicated_connections_max), (2, 2));
    assert_eq!((stats.dedicated_in_use, stats.dedicated_waiting), (2, 1));
    let holders: Vec<_> = stats.dedicated_holders.iter().map(|it| it.location.file()).collect();
    assert_eq!(holders, [file!(), file!()], "the lines that took the leases");
    drop(first);
    third.await.expect("the freed connection");
}

/// Fails when zero is taken for one, and when whoever asks is left waiting.
#[tokio::test]
async fn with_none_allowed_who_asks_is_told() {
    let config = forebay_config::RedisConfig { dedicated_max: 0, ..redis_config(&redis_url(), "") };
    let pool = RedisPool::new(&config).expect("settings");
    let lease = tokio::time::timeout(LONG, pool.dedicated()).await.expect("an answer");
    let error = lease.expect_err("there are none");
    assert!(matches!(error, RedisError::NoneDedicated) && !error.is_unavailable(), "{error:?}");
    assert_eq!(pool.stats().dedicated_connections_max, 0);
    pool.ready().await.expect("lanes are there");
}

/// Fails when a lease gives up at the first failed attempt: a consumer would end with every restart
/// of its server.
#[tokio::test]
async fn a_lease_waits_for_a_server_that_is_away() {
    let mut server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    server.kill();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.dedicated().await }
    });
    eventually("several attempts have failed", async || pool.stats().connect_failures > 3).await;
    assert!(!waiting.is_finished());
    server.restart();
    waiting.await.expect("task").expect("a lease");
}

/// Fails when a drain only keeps new callers out: those who wait for the server would wait on.
#[tokio::test]
async fn a_drain_ends_the_wait_for_a_server_that_is_away() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    server.kill();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.dedicated().await }
    });
    eventually("it waits", async || pool.stats().connect_failures > 0).await;
    pool.drain(Deadline::after(LONG)).await;
    let ended = tokio::time::timeout(LONG, waiting).await.expect("the wait ends").expect("task");
    assert!(matches!(ended, Err(RedisError::Draining)), "{ended:?}");
}

/// Fails when the time to block is all the time there is: the answer that nothing came would be
/// taken for none.
#[tokio::test]
async fn a_blocking_command_may_find_nothing() {
    let mut lease = pool().dedicated().await.expect("lease");
    let block = Duration::from_millis(300);
    let take = Command::new("BLPOP").key("empty").arg("0.3");
    assert_eq!(lease.call_blocking(&take, block).await.expect("an answer"), Reply::Nil);
    lease.call(&Command::new("PING"), LONG).await.expect("the lease is good");
}

#[tokio::test]
async fn a_lease_that_is_held_for_long_is_reported_once() {
    let server = PrivateRedis::start();
    let config = forebay_config::RedisConfig {
        dedicated_leak_after: Duration::from_millis(1),
        ..redis_config(&server.url(), "")
    };
    let pool = RedisPool::new(&config).expect("settings");
    let _held = pool.dedicated().await.expect("lease");
    eventually("it is reported", async || pool.stats().dedicated_leaked == 1).await;
}

#[tokio::test]
async fn connections_tell_whose_they_are() {
    let server = PrivateRedis::start();
    let pool = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
    let _subscription = pool.subscribe("news");
    pool.ready().await.expect("ready");
    let mut lease = pool.dedicated().await.expect("lease");
    let list = Command::new("CLIENT").arg("LIST");
    eventually("each kind is listed", async || {
        let clients = text(&lease.call(&list, LONG).await.expect("list"));
        let named = |kind: &str| clients.contains(&format!("/{}/{kind} ", std::process::id()));
        ["lane-0", "lane-1", "lease", "subscription"].iter().all(|kind| named(kind))
    })
    .await;
}
