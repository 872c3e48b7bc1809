//! What callers learn when the pooler itself has no place left.

use std::time::Duration;

use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::{PrivatePgBouncer, empty_database, postgres_config};
use tokio::time::Instant;

use super::tally::{chain, print};
use super::through;

static ONE: Sql = Sql::new("SELECT 1", "SELECT 1");
static WRITE: Sql = Sql::new("DO", "DO $$ BEGIN END $$");

fn check(what: &str, refused: &PgError, reason: &str) {
    print(&format!("{what}: {}", chain(refused)));
    assert!(matches!(refused, PgError::Pooler { code, .. } if *code == reason), "{refused:?}");
    assert!(refused.is_unavailable(), "the statement is not at fault: {refused:?}");
}

/// Fails when the refusal is taken for a server that cannot be reached.
#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let database = empty_database().await;
    let pooler = PrivatePgBouncer::start_with(database.url(), &[("max_client_conn", "1")]);
    let pool =
        || PgPool::new(&postgres_config(&through(&pooler)), "it").expect("a connection pool");
    let (first, second) = (pool(), pool());
    // The probe that saw the pooler come up counts as a client until its connection is closed.
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = first.query_one(&ONE, &[]).await {
        assert!(Instant::now() < deadline, "the only place: {error:?}");
    }
    let refused = second.query_one(&ONE, &[]).await.expect_err("one too many");
    check("one client too many", &refused, "max_client_conn");
}

/// Fails when the refusal is taken for a lost connection, which leaves the outcome of a write open
/// that the server has never seen.
#[tokio::test]
async fn who_waits_too_long_for_a_server_connection_is_told_so() {
    let database = empty_database().await;
    let settings = [("default_pool_size", "1"), ("query_wait_timeout", "1")];
    let pooler = PrivatePgBouncer::start_with(database.url(), &settings);
    let postgres =
        PgPool::new(&postgres_config(&through(&pooler)), "it").expect("a connection pool");
    let mut holder = postgres.begin().await.expect("the only server connection");
    holder.query_one(&ONE, &[]).await.expect("an answer");
    let read = postgres.query_one(&ONE, &[]).await.expect_err("nobody gives it back");
    let begin = postgres.begin().await.expect_err("nobody gives it back");
    let write = postgres.execute(&WRITE, &[]).await.expect_err("nobody gives it back");
    for (what, refused) in [("a read", read), ("a transaction", begin), ("a write", write)] {
        check(&format!("{what} waited too long"), &refused, "query_wait_timeout");
    }
    holder.commit().await.expect("a commit");
    postgres.query_one(&ONE, &[]).await.expect("it goes on");
}
