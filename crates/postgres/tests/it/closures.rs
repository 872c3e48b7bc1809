//! Work as closures: done again when that is safe, and only then.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_postgres::{PgError, PgTx, Sql, TxOptions};

use crate::support::{CREATE_TABLE, Fixture, INSERT, PID, SLEEP, ms};

/// Ends the backend that runs it, in the middle of whatever it does.
static SUICIDE: Sql =
    Sql::new("SELECT pg_terminate_backend", "SELECT pg_terminate_backend(pg_backend_pid())");

/// Fails without the repetition, or when the second try is on a connection that is dead too.
#[tokio::test]
async fn a_read_whose_connection_dies_is_done_again() {
    let it = Fixture::new(2).await;
    let tries = AtomicU32::new(0);
    let (first, second) = it
        .postgres
        .read(|mut snapshot| {
            let attempt = tries.fetch_add(1, Ordering::Relaxed);
            async move {
                let first: i32 = snapshot.query_one(&PID, &[]).await?.get(0);
                if attempt < 2 {
                    snapshot.query(&SUICIDE, &[]).await?;
                }
                let second: i32 = snapshot.query_one(&PID, &[]).await?.get(0);
                Ok::<_, PgError>((first, second))
            }
        })
        .await
        .expect("the third try");
    assert_eq!((tries.load(Ordering::Relaxed), first), (3, second));
    assert_eq!(it.postgres.stats().retries, 2);
}

/// Fails when the statements of a read see different states, or when it can write.
#[tokio::test]
async fn a_read_sees_one_state_and_cannot_write() {
    static COUNT: Sql = Sql::new("SELECT things", "SELECT count(*) FROM things");
    let it = Fixture::new(2).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let postgres = &it.postgres;
    let counts = postgres
        .read(|mut snapshot| async move {
            let before: i64 = snapshot.query_one(&COUNT, &[]).await?.get(0);
            postgres.execute(&INSERT, &[&1_i64]).await?;
            let after: i64 = snapshot.query_one(&COUNT, &[]).await?.get(0);
            Ok::<_, PgError>((before, after))
        })
        .await;
    assert_eq!(counts.expect("two counts"), (0, 0));
    let write =
        postgres.read(|mut snapshot| async move { snapshot.execute(&INSERT, &[&2_i64]).await });
    let error = write.await.expect_err("a write");
    assert!(matches!(error, PgError::ReadOnly { .. }), "{error:?}");
    assert_eq!(it.count().await, 1);
}

/// Fails when a transaction that collides is not done again: every second one would be lost.
#[tokio::test]
async fn transactions_that_collide_are_done_again() {
    static CREATE: Sql =
        Sql::new("CREATE TABLE sums", "CREATE TABLE sums AS SELECT 0::bigint AS sum");
    static READ: Sql = Sql::new("SELECT sums", "SELECT sum FROM sums");
    static WRITE: Sql = Sql::new("UPDATE sums", "UPDATE sums SET sum = $1");
    let it = Fixture::new(4).await;
    it.postgres.execute(&CREATE, &[]).await.expect("a table");
    // What earlier requests earned: the budget is for retries of a healthy service.
    for _ in 0..900 {
        it.postgres.query(&READ, &[]).await.expect("a sum");
    }
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move {
                let mut added = 0_i64;
                for _ in 0..10 {
                    let outcome = postgres
                        .tx(TxOptions::SERIALIZABLE, |mut tx| async move {
                            let sum: i64 = tx.query_one(&READ, &[]).await?.get(0);
                            tx.execute(&WRITE, &[&(sum + 1)]).await
                        })
                        .await;
                    match outcome {
                        Ok(_) => added += 1,
                        // Five tries met another transaction each.
                        Err(PgError::Serialization { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                added
            })
        })
        .collect();
    let mut added = 0;
    for task in tasks {
        added += task.await.expect("no other error");
    }
    let sum: i64 = it.postgres.query_one(&READ, &[]).await.expect("a sum").get(0);
    let retries = it.postgres.stats().retries;
    println!("{added} of 40 colliding transactions committed, {retries} done again");
    assert_eq!(sum, added, "nothing is lost and nothing done twice");
    assert!(retries > 0 && added > 20, "{added} of 40 with {retries} retries");
}

/// Fails when an error of the closure's own kind hides why it may be done again, and when one that
/// has nothing to do with the database is repeated.
#[tokio::test]
async fn a_closure_may_fail_in_its_own_words() {
    #[derive(Debug)]
    enum Mine {
        Wrapped,
        Refused,
        Store(PgError),
    }
    impl From<PgError> for Mine {
        fn from(error: PgError) -> Self {
            Self::Store(error)
        }
    }
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    for (lose, expected_tries) in [(true, 2), (false, 1)] {
        let tries = AtomicU32::new(0);
        let outcome = it
            .postgres
            .tx(TxOptions::default(), |mut tx| {
                let attempt = tries.fetch_add(1, Ordering::Relaxed);
                async move {
                    tx.execute(&INSERT, &[&1_i64]).await?;
                    if lose && attempt == 0 {
                        tx.query(&SUICIDE, &[]).await.map_err(|_| Mine::Wrapped)?;
                    }
                    Err::<(), _>(Mine::Refused)
                }
            })
            .await;
        assert!(matches!(outcome, Err(Mine::Refused)), "{outcome:?}");
        assert_eq!(tries.load(Ordering::Relaxed), expected_tries);
    }
    assert_eq!(it.count().await, 0, "all of it is undone");
    let late =
        Deadline::after(ms(20)).scope(it.postgres.tx(TxOptions::default(), |mut tx| async move {
            tx.query(&SLEEP, &[&3.0_f64]).await?;
            Ok::<_, Mine>(())
        }));
    let outcome = late.await;
    assert!(matches!(outcome, Err(Mine::Store(PgError::StatementTimeout { .. }))), "{outcome:?}");
}

/// The answer to a commit is lost on its way: the transaction is not done again, unless its caller
/// says that it may be. Fails when either is the other way round.
#[tokio::test]
async fn a_commit_without_an_answer_is_repeated_only_if_that_is_harmless() {
    // A trigger at commit time keeps the commit busy, so that its backend can be ended meanwhile.
    static SLOW_COMMIT: Sql = Sql::new(
        "CREATE TRIGGER slow",
        "DO $$ BEGIN \
           CREATE TABLE tries (id serial); \
           CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN IF nextval(''tries_id_seq'') = 1 THEN PERFORM pg_sleep(9); END IF; RETURN NULL; END'; \
           CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON things DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION slow(); \
         END $$",
    );
    static ONCE: Sql =
        Sql::new("INSERT things", "INSERT INTO things VALUES ($1) ON CONFLICT DO NOTHING");
    for is_idempotent in [false, true] {
        let it = Arc::new(Fixture::new(2).await);
        it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
        it.postgres.execute(&SLOW_COMMIT, &[]).await.expect("a trigger");
        let postgres = it.postgres.clone();
        let writing = tokio::spawn(async move {
            let tries = AtomicU32::new(0);
            let work = |mut tx: forebay_postgres::PgTx| {
                tries.fetch_add(1, Ordering::Relaxed);
                async move { tx.execute(&ONCE, &[&1_i64]).await }
            };
            let outcome = if is_idempotent {
                postgres.write_idempotent(TxOptions::default(), work).await
            } else {
                postgres.tx(TxOptions::default(), work).await
            };
            (outcome, tries.load(Ordering::Relaxed))
        });
        it.wait_for_statement("COMMIT").await;
        it.terminate_backends().await;
        let (outcome, tries) = writing.await.expect("the task ends");
        if is_idempotent {
            assert!(matches!(outcome, Ok(1)), "{outcome:?}");
            assert_eq!((tries, it.count().await), (2, 1));
        } else {
            assert!(matches!(outcome, Err(PgError::UnknownOutcome { .. })), "{outcome:?}");
            assert_eq!((tries, it.count().await), (1, 0));
        }
    }
}

/// Fails when retries are free: an administrator who ends every session would be met by everyone
/// again and again, until their deadlines.
#[tokio::test]
async fn repetitions_are_a_part_of_what_succeeds() {
    let it = Fixture::new(2).await;
    let mut failed = 0_u32;
    for _ in 0..40 {
        let work =
            |mut snapshot: PgTx| async move { snapshot.query(&SUICIDE, &[]).await.map(drop) };
        let outcome = Deadline::after(Duration::from_secs(1)).scope(it.postgres.read(work)).await;
        outcome.expect_err("nothing but lost connections");
        failed += 1;
    }
    let stats = it.postgres.stats();
    println!("{failed} reads failed, {} repeated, {} not", stats.retries, stats.retries_denied);
    assert!(stats.retries <= 40 && stats.retries_denied >= 20, "{stats:?}");
}

/// A transaction that its closure keeps is not committed behind its back.
#[tokio::test]
async fn a_transaction_cannot_leave_its_closure() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let kept = it
        .postgres
        .tx(TxOptions::default(), |mut tx| async move {
            tx.execute(&INSERT, &[&1_i64]).await?;
            Ok::<_, PgError>(tx)
        })
        .await;
    assert!(matches!(kept, Err(PgError::TransactionFailed)), "{kept:?}");
    drop(kept);
    assert_eq!(it.count().await, 0);
}
