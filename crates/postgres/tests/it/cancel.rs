//! Callers that go away in the middle of something.

use forebay_pooling::Deadline;
use forebay_postgres::{PgError, Sql};
use futures_util::FutureExt;
use tokio::time::{Instant, timeout};

use crate::support::{CREATE_TABLE, Fixture, INSERT, LOCK, SLEEP, ms};

/// Fails without the janitor's cancel: the next query waits for the sleep to end.
#[tokio::test]
async fn a_dropped_query_is_cancelled_and_its_connection_serves_on() {
    let it = Fixture::new(1).await;
    let before = it.pid().await;
    let sleep = it.postgres.query(&SLEEP, &[&3.0_f64]);
    assert!(timeout(ms(100), sleep).await.is_err(), "the sleep is cut off");

    let started = Instant::now();
    let after = it.pid().await;
    assert!(started.elapsed() < ms(500), "the next query waited {:?}", started.elapsed());
    assert_eq!(before, after, "the connection is used again");
    assert_eq!(it.backends("active").await, 0, "no statement is left on the server");
    assert_eq!(it.postgres.stats().discarded, 0);
}

/// Fails when the janitor does not roll back: the row is visible, or the next user is inside the
/// transaction of the one before.
#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let before = it.pid().await;
    let mut tx = it.postgres.begin().await.expect("a transaction");
    tx.execute(&INSERT, &[&1_i64]).await.expect("a row");
    drop(tx);
    assert_eq!(it.count().await, 0);
    assert_eq!(it.pid().await, before, "the connection is used again");
    assert_eq!(it.backends("idle in transaction%").await, 0);
}

/// Fails when a transaction is noted only after its `BEGIN` was answered: the next caller is inside
/// it, and nobody commits what that one writes.
#[tokio::test]
async fn a_begin_that_was_cut_off_is_rolled_back() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let before = it.pid().await;
    for _ in 0..20 {
        // One look sends it, and no answer can be there yet.
        let begin = Box::pin(it.postgres.begin()).now_or_never();
        assert!(begin.is_none(), "it is under way");
        match it.postgres.execute(&LOCK, &[]).await {
            Err(error) if error.sqlstate() == Some("25P01") => {}
            outcome => panic!("inside the transaction of another: {outcome:?}"),
        }
    }
    assert_eq!(it.pid().await, before, "the connection is used again");
}

/// As above, with a statement under way.
#[tokio::test]
async fn a_transaction_dropped_inside_a_statement_is_rolled_back() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let mut tx = it.postgres.begin().await.expect("a transaction");
    tx.execute(&INSERT, &[&1_i64]).await.expect("a row");
    assert!(timeout(ms(100), tx.query(&SLEEP, &[&3.0_f64])).await.is_err());
    let again = tx.execute(&INSERT, &[&2_i64]).await;
    assert!(matches!(again, Err(PgError::TransactionFailed)), "{again:?}");
    drop(tx);

    let started = Instant::now();
    assert_eq!(it.count().await, 0);
    assert!(started.elapsed() < ms(500), "the next query waited {:?}", started.elapsed());
}

/// Fails when a rollback waits for the statement that was cut off.
#[tokio::test]
async fn a_rollback_does_not_wait_for_a_statement_that_was_cut_off() {
    let it = Fixture::new(1).await;
    let mut tx = it.postgres.begin().await.expect("a transaction");
    let started = Instant::now();
    let outcome = Deadline::after(ms(50)).scope(tx.query(&SLEEP, &[&3.0_f64])).await;
    assert!(matches!(outcome, Err(PgError::StatementTimeout { .. })), "{outcome:?}");
    tx.rollback().await.expect("a rollback");
    it.pid().await;
    assert!(started.elapsed() < ms(500), "{:?}", started.elapsed());
}

/// Fails without the deadline in `by`, and without the cancel.
#[tokio::test]
async fn a_statement_ends_at_its_deadline() {
    let it = Fixture::new(1).await;
    it.pid().await;
    let started = Instant::now();
    let outcome = Deadline::after(ms(100)).scope(it.postgres.query(&SLEEP, &[&3.0_f64])).await;
    assert!(matches!(outcome, Err(PgError::StatementTimeout { .. })), "{outcome:?}");
    assert!(started.elapsed() < ms(400), "{:?}", started.elapsed());
    it.pid().await;
    assert!(started.elapsed() < ms(900), "{:?}", started.elapsed());
}

/// The server's own timeout, for statements of which no caller of ours is left to take care.
#[tokio::test]
async fn the_server_knows_the_statement_timeout() {
    static SETTINGS: Sql = Sql::new(
        "SELECT pg_settings",
        "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN \
         ('statement_timeout', 'idle_in_transaction_session_timeout', 'application_name', \
          'client_connection_check_interval', 'lock_timeout')",
    );
    let it = Fixture::with(|config| {
        config.statement_timeout = ms(1234);
        config.idle_in_transaction_timeout = ms(4321);
        config.lock_timeout = ms(987);
    })
    .await;
    let settings: String = it.postgres.query_one(&SETTINGS, &[]).await.expect("a row").get(0);
    assert!(settings.starts_with("application_name=it-"), "{settings}");
    let expected = "client_connection_check_interval=2000 \
                    idle_in_transaction_session_timeout=4321 lock_timeout=987 \
                    statement_timeout=1234";
    assert!(settings.ends_with(expected), "{settings}");
}
