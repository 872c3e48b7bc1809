//! A primary that is one no more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_postgres::{Consistency, PgError, PgTx, TxOptions};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{COUNT_UP, Fixture, PATIENCE};
use crate::support::ms;

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
/// next, and it leads to the old primary.
///
/// Fails when a connection is passed on that should be closed: all of them meet the old one for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crowd_that_never_rests_follows_too() {
    let mut it = Fixture::with("", 1).await;
    let (_, lsn) = it.count_up().await;
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.replayed >= lsn)).await;
    it.replicas[0].promote();
    tokio::task::block_in_place(|| it.primary.demote());
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let writers: Vec<JoinHandle<()>> = (0..32)
        .map(|_| {
            let (postgres, stop, done) =
                (it.postgres.clone(), Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Never done again, so that nobody pauses.
                    match postgres.execute(&COUNT_UP, &[]).await {
                        Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                        Err(error) => assert!(error.is_unavailable(), "{error:?}"),
                    }
                    // A refusal may be there at once, and others have to run too.
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let started = Instant::now();
    while done.load(Ordering::Relaxed) < 100 && started.elapsed() < PATIENCE {
        sleep(ms(1)).await;
    }
    let (moved, done) = (started.elapsed(), done.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("the task ends");
    }
    println!("{done} writes {moved:?} after a crowd met the old primary");
    assert!(done >= 100, "the crowd still meets the old primary: {done} writes");
}
