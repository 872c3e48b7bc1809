//! What tests rely on: databases of their own, and servers that break and come back.

use std::time::Duration;

use forebay_postgres::maintenance::Maintenance;
use forebay_testkit::{
    PrivatePostgres, PrivateRedis, database, empty_database, redis_prefix, seeded_database,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn number(connection: &Maintenance, query: &str) -> i64 {
    connection.client().query_one(query, &[]).await.expect("a number").get(0)
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    let (one, other) = tokio::join!(database(), database());
    assert_ne!(one.url(), other.url());
    let (one, other) = (one.connect().await, other.connect().await);
    one.client().batch_execute("CREATE TABLE mine ()").await.unwrap();
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'mine'";
    assert_eq!((number(&one, tables).await, number(&other, tables).await), (1, 0));
}

#[tokio::test]
async fn a_database_starts_from_what_was_asked_for() {
    let (empty, migrated, seeded) = tokio::join!(empty_database(), database(), seeded_database());
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'tokens'";
    assert_eq!(number(&empty.connect().await, tables).await, 0);
    let tokens = "SELECT count(*) FROM tokens";
    assert_eq!(number(&migrated.connect().await, tokens).await, 0);
    assert_eq!(number(&seeded.connect().await, tokens).await, 13_053);
}

/// A database must go even while connections to it are open, as they are in a test that fails.
#[tokio::test]
async fn a_database_is_dropped_with_its_value() {
    let watcher = empty_database().await;
    let dropped = database().await;
    let open = dropped.connect().await;
    let name = dropped.url().rsplit('/').next().unwrap().to_owned();
    drop(dropped);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(&watcher.connect().await, &left).await, 0);
    assert!(open.client().batch_execute("SELECT 1").await.is_err());
}

#[test]
fn prefixes_differ() {
    assert_ne!(redis_prefix(), redis_prefix());
}

async fn ping(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_private_redis_is_killed_stopped_and_started_again() {
    let mut redis = PrivateRedis::start();
    let port = redis.port();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{port}"));
    assert_eq!(ping(port).await.unwrap(), "+PONG\r\n");

    redis.kill();
    assert!(ping(port).await.is_err());
    redis.restart();
    assert_eq!(ping(port).await.unwrap(), "+PONG\r\n");

    redis.stop();
    // The kernel still accepts the connection, as it does for a server that hangs.
    let answer = tokio::time::timeout(Duration::from_millis(200), ping(port)).await;
    assert!(answer.is_err(), "{answer:?}");
    redis.cont();
    assert_eq!(ping(port).await.unwrap(), "+PONG\r\n");

    drop(redis);
    assert!(ping(port).await.is_err());
}

#[tokio::test]
async fn a_private_postgres_keeps_what_was_committed() {
    let mut postgres = PrivatePostgres::start().await;
    let connection = Maintenance::connect(&postgres.url()).await.unwrap();
    connection.client().batch_execute("CREATE TABLE kept ()").await.unwrap();

    postgres.kill();
    assert!(connection.client().batch_execute("SELECT 1").await.is_err());
    assert!(Maintenance::connect(&postgres.url()).await.is_err());
    postgres.restart();
    let connection = Maintenance::connect(&postgres.url()).await.unwrap();
    assert_eq!(number(&connection, "SELECT count(*) FROM kept").await, 0);

    postgres.stop();
    let query = connection.client().batch_execute("SELECT 1");
    assert!(tokio::time::timeout(Duration::from_millis(200), query).await.is_err());
    postgres.cont();
    connection.client().batch_execute("SELECT 1").await.unwrap();
}
