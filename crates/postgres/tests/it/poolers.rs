//! What a url must say about pgbouncer, and what is left behind there.

use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::{PrivatePgBouncer, postgres_config};

/// The url that tells what it leads to.
fn url(bouncer: &PrivatePgBouncer) -> String {
    format!("{}?pgbouncer=true", bouncer.url())
}

fn pool(url: &str, connections_max: u32) -> PgPool {
    let mut config = postgres_config(url);
    config.connections_max = connections_max;
    PgPool::new(&config, "it-poolers").expect("a connection pool")
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
