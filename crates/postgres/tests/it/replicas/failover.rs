//! A primary that is one no more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{Consistency, PgError, PgTx, TxOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{COUNT_UP, Fixture, PATIENCE};
use crate::support::ms;

/// Each alone: the first is refused inside a transaction.
const READ_ONLY: [&str; 2] =
    ["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"];

/// Fails when nobody looks for another primary, when connections to the old one stay in use, and
/// when a write that met the old one is not done again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_follow_the_primary_to_another_server() {
    let mut it = Fixture::start("").await;
    let (before, lsn) = it.count_up().await;
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.replayed >= lsn)).await;
    it.replicas[0].promote();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<JoinHandle<(u64, Vec<PgError>)>> = (0..4)
        .map(|_| {
            let (postgres, stop, done) =
                (it.postgres.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let (mut written, mut errors) = (0, Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let one = |mut tx: PgTx| async move { tx.query_one(&COUNT_UP, &[]).await };
                    match postgres.tx(TxOptions::default(), one).await {
                        Ok(_) => {
                            written += 1;
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => errors.push(error),
                    }
                    sleep(ms(5)).await;
                }
                (written, errors)
            })
        })
        .collect();
    let goes_on = async |count: u64| {
        let (started, goal) = (Instant::now(), done.load(Ordering::Relaxed) + count);
        while done.load(Ordering::Relaxed) < goal {
            assert!(started.elapsed() < PATIENCE, "writes do not go on");
            sleep(ms(1)).await;
        }
        started.elapsed()
    };
    // The old one still takes writes, so it is the primary whatever was promoted.
    goes_on(20).await;
    assert_eq!(it.stats().primary_moves, 0);
    tokio::task::block_in_place(|| it.primary.demote());
    let moved = goes_on(20).await;
    stop.store(true, Ordering::Relaxed);
    let (mut written, mut errors) = (0, Vec::new());
    for writer in writers {
        let (its_written, its_errors) = writer.await.expect("the task ends");
        written += its_written;
        errors.extend(its_errors);
    }
    let kinds: BTreeSet<_> = errors.iter().map(PgError::kind).collect();
    println!(
        "{written} writes; they went on {moved:?} after the old primary was back as a standby; {} \
         errors {kinds:?}",
        errors.len()
    );
    assert!(errors.iter().all(PgError::is_unavailable), "{errors:?}");
    assert_eq!(it.stats().primary_moves, 1);
    // Some hundred milliseconds, most of them pauses of writers that met the old one.
    assert!(moved < ms(2000), "writes went on only after {moved:?}");
    // What the new one has is what it had, and what was written to it since.
    let value = it.read(Consistency::Primary).await;
    assert!(value >= before + 20, "{value} after {before}");
}

/// So many callers write that one connection never comes to rest: each of them passes it on to the
/// next. The server at its other end is made read-only under them, which ends no session.
///
/// Fails when a connection is passed on that should be closed: all of them meet the old one for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_never_rests_follows_too() {
    let it = Fixture::with("", 1).await;
    let (_, lsn) = it.count_up().await;
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.replayed >= lsn)).await;
    it.replicas[0].promote();
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<JoinHandle<u64>> = (0..32)
        .map(|_| {
            let (postgres, stop, done) =
                (it.postgres.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut refused = 0;
                while !stop.load(Ordering::Relaxed) {
                    // Never done again, so that nobody pauses.
                    match postgres.execute(&COUNT_UP, &[]).await {
                        Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(PgError::ReadOnly { .. }) => refused += 1,
                        Err(error) => panic!("{error:?}"),
                    }
                    // A refusal may be there at once, and others have to run too.
                    tokio::task::yield_now().await;
                }
                refused
            })
        })
        .collect();
    let goes_on = async || {
        let (started, before) = (Instant::now(), done.load(Ordering::Relaxed));
        while done.load(Ordering::Relaxed) < before + 100 && started.elapsed() < PATIENCE {
            sleep(ms(1)).await;
        }
        (done.load(Ordering::Relaxed) - before, started.elapsed())
    };
    let (on_the_old, _) = goes_on().await;
    assert!(on_the_old >= 100 && it.stats().primary_moves == 0, "the crowd is at work");
    let admin = Maintenance::connect(&it.primary.url()).await.expect("an administrator");
    for statement in READ_ONLY {
        admin.client().batch_execute(statement).await.expect("the server is made read-only");
    }
    admin.close().await;
    it.wait_for(|stats| stats.primary_moves == 1).await;
    let (on_the_new, moved) = goes_on().await;
    stop.store(true, Ordering::Relaxed);
    let mut refused = 0;
    for writer in writers {
        refused += writer.await.expect("the task ends");
    }
    println!("{refused} writes of a crowd refused; {on_the_new} done {moved:?} after the move");
    assert!(on_the_new >= 100, "the crowd still meets the old primary: {on_the_new} writes");
}
