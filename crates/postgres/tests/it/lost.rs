//! Connections that die under their callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_postgres::{PgError, Sql};

use crate::support::{CREATE_TABLE, Fixture, INSERT, PID, ms};

/// Fails when writes are repeated, which the unique column refuses.
#[tokio::test]
async fn a_write_is_never_done_twice() {
    let it = Arc::new(Fixture::new(4).await);
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_i64)
        .map(|writer| {
            let (postgres, stop) = (it.postgres.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut done, mut unknown) = (0_i64, 0_i64);
                let mut number = writer << 32;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    match postgres.execute(&INSERT, &[&number]).await {
                        Ok(rows) => done += i64::try_from(rows).expect("one row"),
                        Err(PgError::UnknownOutcome { .. }) => unknown += 1,
                        // Not written, and told so.
                        Err(PgError::ConnectionLost { .. }) => {}
                        Err(error) => panic!("writer {writer}: {error:?}"),
                    }
                }
                (done, unknown)
            })
        })
        .collect();
    for _ in 0..20 {
        it.terminate_backends().await;
        tokio::time::sleep(ms(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut done, mut unknown) = (0, 0);
    for writer in writers {
        let (its_done, its_unknown) = writer.await.expect("the task ends");
        done += its_done;
        unknown += its_unknown;
    }
    let counted = it.postgres.stats().unknown_outcomes;
    assert_eq!(counted, u64::try_from(unknown).expect("a count"), "in the statistics");
    let rows = it.count().await;
    assert!(done > 0 && rows >= done && rows <= done + unknown, "{rows} rows, {done}, {unknown}");
}

/// Fails when a write is repeated, or when its caller is told that it did not happen.
#[tokio::test]
async fn a_write_without_an_answer_is_of_unknown_outcome() {
    static SLOW: Sql =
        Sql::new("INSERT things", "INSERT INTO things SELECT 1 FROM pg_sleep(2) RETURNING id");
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    for is_query in [false, true] {
        let write = tokio::spawn({
            let postgres = it.postgres.clone();
            async move {
                if is_query {
                    postgres.query(&SLOW, &[]).await.map(drop)
                } else {
                    postgres.execute(&SLOW, &[]).await.map(drop)
                }
            }
        });
        it.wait_for_backends("active", 1).await;
        it.terminate_backends().await;
        let outcome = write.await.expect("the task ends");
        assert!(matches!(outcome, Err(PgError::UnknownOutcome { .. })), "{outcome:?}");
        assert_eq!(it.count().await, 0);
    }
}

/// Fails without the check before `BEGIN` and its repetition.
#[tokio::test]
async fn a_transaction_starts_on_a_living_connection() {
    let it = Fixture::new(2).await;
    for round in 0..20 {
        it.pid().await;
        it.terminate_backends().await;
        if round % 2 == 0 {
            it.wait_for_backends("%", 0).await;
        }
        let mut tx = it.postgres.begin().await.expect("a transaction");
        tx.query(&PID, &[]).await.expect("an answer");
        tx.commit().await.expect("a commit");
    }
}

/// Fails when a transaction that lost its connection is reported as anything but undone.
#[tokio::test]
async fn a_transaction_that_loses_its_connection_is_undone() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let mut tx = it.postgres.begin().await.expect("a transaction");
    tx.execute(&INSERT, &[&1_i64]).await.expect("a row");
    it.terminate_backends().await;
    let lost = tx.execute(&INSERT, &[&2_i64]).await;
    assert!(matches!(lost, Err(PgError::ConnectionLost { .. })), "{lost:?}");
    drop(tx);
    assert_eq!(it.count().await, 0);
}

/// A connection that reached its lifetime is replaced when it comes back.
#[tokio::test]
async fn an_old_connection_is_replaced() {
    static NOTHING: Sql = Sql::new("SELECT 1", "SELECT 1");
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.lifetime_max = ms(50);
    })
    .await;
    let first = it.pid().await;
    tokio::time::sleep(ms(60)).await;
    // The lifetime is looked at on return: this one may still use it, the next may not.
    it.postgres.query(&NOTHING, &[]).await.expect("an answer");
    assert_ne!(it.pid().await, first);
}
