//! Redis for real: the shared server of the test run, and servers of a test's own to be harmed.

mod consumer;
mod dedicated;
mod faults;
mod outage;
mod proxy;
mod shared;
mod subscription;

use std::time::Duration;

use forebay_redis::{RedisPool, Reply};
use forebay_testkit::{redis_config, redis_prefix, redis_url};

/// A connection pool on the shared server with keys of its own.
fn pool() -> RedisPool {
    RedisPool::new(&redis_config(&redis_url(), &redis_prefix())).expect("valid settings")
}

/// Waits until `holds`, and fails after ten seconds: for what other tasks do in their own time.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => format!("{other:?}"),
    }
}
