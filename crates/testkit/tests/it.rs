//! What tests rely on: databases of their own, and servers that break and come back.

use std::time::Duration;

use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{PgPool, Sql};
use forebay_testkit::{
    PrivatePgBouncer, PrivatePostgres, PrivateRedis, PrivateReplica, database, empty_database,
    postgres_config, redis_prefix, seeded_database,
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

#[tokio::test]
async fn a_private_pgbouncer_stands_before_a_database_of_any_server() {
    let database = database().await;
    let mut pgbouncer = PrivatePgBouncer::start(database.url());
    let select = async |url: &str| -> anyhow::Result<i64> {
        let pool = PgPool::new(&postgres_config(url), "forebay-test")?;
        let one = Sql::new("SELECT tokens", "SELECT count(*) FROM tokens");
        Ok(pool.query_one(&one, &[]).await?.get(0))
    };
    let url = format!("{}?pgbouncer=true", pgbouncer.url());
    assert_eq!(select(&url).await.unwrap(), 0);

    pgbouncer.kill();
    assert!(select(&url).await.is_err());
    pgbouncer.restart();
    assert_eq!(select(&url).await.unwrap(), 0);

    pgbouncer.stop();
    let query = tokio::time::timeout(Duration::from_millis(200), select(&url)).await;
    assert!(query.is_err(), "{query:?}");
    pgbouncer.cont();
    assert_eq!(select(&url).await.unwrap(), 0);
}

#[tokio::test]
async fn a_private_replica_follows_stands_still_and_takes_over() {
    let primary = PrivatePostgres::start().await;
    let mut replica = PrivateReplica::of(&primary);
    let writer = Maintenance::connect(&primary.url()).await.unwrap();
    let reader = Maintenance::connect(&replica.url()).await.unwrap();
    let tables = "SELECT count(*) FROM pg_class WHERE relname LIKE 'made_%'";
    replica.pause_replay();
    writer.client().batch_execute("CREATE TABLE made_1 ()").await.unwrap();
    assert_eq!(number(&reader, tables).await, 0);
    replica.resume_replay();
    let replayed = async {
        while number(&reader, tables).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), replayed).await.expect("it catches up");

    replica.kill();
    replica.restart();
    drop(primary);
    replica.promote();
    let reader = Maintenance::connect(&replica.url()).await.unwrap();
    reader.client().batch_execute("CREATE TABLE made_2 ()").await.unwrap();
    assert_eq!(number(&reader, tables).await, 2);
}
