//! Real pgbouncer in front of Postgres: what it refuses, and what a url must say about it.

use forebay_pooling::Deadline;
use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::{PrivatePgBouncer, postgres_config};

use crate::support::{CREATE_TABLE, INSERT, ms};

/// The url that tells what it leads to.
fn url(bouncer: &PrivatePgBouncer) -> String {
    format!("{}?pgbouncer=true", bouncer.url())
}

fn pool(url: &str, connections_max: u32) -> PgPool {
    let mut config = postgres_config(url);
    config.connections_max = connections_max;
    PgPool::new(&config, "it-poolers").expect("a connection pool")
}

/// Fails when a pooler's refusal counts as an unreachable server.
#[tokio::test]
async fn a_pooler_that_lets_nobody_in_says_so() {
    let database = forebay_testkit::empty_database().await;
    let bouncer = PrivatePgBouncer::start_with(database.url(), &[("max_client_conn", "2")]);
    // The probe that saw it come up may still count as a client, so the test asks until it is full.
    let mut clients = Vec::new();
    let error = loop {
        assert!(clients.len() <= 2, "{clients:?}");
        match Maintenance::connect(&url(&bouncer)).await {
            Ok(client) => clients.push(client),
            Err(_) => break pool(&url(&bouncer), 1).ready().await.expect_err("it is full"),
        }
    };
    assert!(matches!(error, PgError::Pooler { code: "max_client_conn", .. }), "{error:?}");
    assert!(error.is_unavailable() && error.retry_after().is_some(), "{error:?}");
}

/// Fails when nothing points to what is missing in the url.
#[tokio::test]
async fn a_pooler_that_nobody_announced_is_recognised() {
    let database = forebay_testkit::empty_database().await;
    let bouncer = PrivatePgBouncer::start(database.url());
    let error = pool(&bouncer.url(), 1).ready().await.expect_err("a direct url");
    let expected = "the postgres pooler refuses (unsupported_startup_parameter)";
    assert_eq!(error.to_string(), expected, "{error:?}");
}

/// Fails when a write that never left the pooler counts as one of unknown outcome.
#[tokio::test]
async fn a_write_that_a_pooler_gave_up_is_known_not_to_have_happened() {
    static COUNT: Sql = Sql::new("SELECT things", "SELECT count(*) FROM things");
    let database = forebay_testkit::empty_database().await;
    let settings = [("default_pool_size", "1"), ("query_wait_timeout", "1")];
    let bouncer = PrivatePgBouncer::start_with(database.url(), &settings);
    let postgres = pool(&url(&bouncer), 2);
    postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    // Both connections know the statement, and then one takes the only server connection.
    let (first, second) =
        tokio::join!(postgres.execute(&INSERT, &[&1_i64]), postgres.execute(&INSERT, &[&2_i64]));
    first.and(second).expect("two rows");
    let mut tx = postgres.begin().await.expect("a transaction");
    tx.query(&COUNT, &[]).await.expect("the server connection is taken");
    let write = Deadline::after(ms(8000)).scope(postgres.execute(&INSERT, &[&3_i64]));
    let error = write.await.expect_err("no server connection");
    assert!(matches!(error, PgError::Pooler { code: "query_wait_timeout", .. }), "{error:?}");
    tx.rollback().await.expect("a rollback");
    let rows: i64 = postgres.query_one(&COUNT, &[]).await.expect("a count").get(0);
    assert_eq!(rows, 2);
}

/// Fails when start-up options are sent to a transaction pooler, which refuses them, or when a
/// named statement or a setting is left on the server connection that the next client gets.
#[tokio::test]
async fn nothing_is_left_behind_for_the_next_client() {
    static LEFT: Sql = Sql::new(
        "SELECT pg_prepared_statements",
        "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('lock_timeout')",
    );
    static ADD: Sql = Sql::new("SELECT sum", "SELECT $1::bigint + $2::bigint");
    static MOOD: Sql = Sql::new("SELECT moods", "SELECT 'calm'::mood");
    let database = forebay_testkit::empty_database().await;
    let admin = database.connect().await;
    admin.client().batch_execute("CREATE TYPE mood AS ENUM ('calm')").await.expect("a type");
    let bouncer = PrivatePgBouncer::start_with(database.url(), &[("default_pool_size", "1")]);
    let (one, other) = (pool(&url(&bouncer), 2), pool(&url(&bouncer), 2));
    for round in 0..50_i64 {
        let sum = one.query_one(&ADD, &[&round, &1_i64]).await.expect("a sum");
        assert_eq!(sum.get::<_, i64>(0), round + 1);
        let mut tx = one.begin().await.expect("a transaction");
        tx.query_one(&ADD, &[&round, &2_i64]).await.expect("a sum");
        tx.commit().await.expect("a commit");
        let refused = one.query(&MOOD, &[]).await;
        assert!(matches!(refused, Err(PgError::CustomType { .. })), "{refused:?}");
        let left = other.query_one(&LEFT, &[]).await.expect("an answer");
        assert_eq!((left.get::<_, i64>(0), left.get::<_, &str>(1)), (0, "0"), "round {round}");
    }
}
