//! A server that is away for seconds, under load.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay_pooling::{BreakerState, Deadline};
use forebay_postgres::{PgError, PgPool};
use forebay_testkit::{PrivatePostgres, postgres_config};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::{ALONE, PID, SLEEP, ms};

const WORKERS: usize = 200;
const CONNECTIONS: u32 = 8;
const AWAY: Duration = Duration::from_secs(3);

/// One failed call: when it began, how long it took.
type Failed = (Instant, Duration);

struct Worker {
    failed: Vec<Failed>,
    /// When it got its first answer after `since`.
    first_answer: Option<Instant>,
}

fn work(postgres: &PgPool, stop: &Arc<AtomicBool>, up: &Arc<AtomicBool>) -> JoinHandle<Worker> {
    let (postgres, stop, up) = (postgres.clone(), Arc::clone(stop), Arc::clone(up));
    tokio::spawn(async move {
        let mut worker = Worker { failed: Vec::new(), first_answer: None };
        while !stop.load(Ordering::Relaxed) {
            let is_up = up.load(Ordering::Acquire);
            let started = Instant::now();
            match postgres.query(&PID, &[]).await {
                Ok(_) => {
                    if is_up && worker.first_answer.is_none() {
                        worker.first_answer = Some(Instant::now());
                    }
                }
                Err(PgError::Unreachable { .. } | PgError::ConnectionLost { .. }) => {
                    worker.failed.push((started, started.elapsed()));
                    tokio::time::sleep(ms(20)).await;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        worker
    })
}

/// Fails when callers wait out their time although nothing can come (without the news of the
/// breaker, or when those at the gate do not hear it), when every caller tries for itself, and when
/// nobody notices that the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_fast_costs_few_attempts_and_ends_by_itself() {
    let _alone = ALONE.lock().await;
    let mut server = PrivatePostgres::start().await;
    let mut config = postgres_config(&server.url());
    config.connections_max = CONNECTIONS;
    config.waiting_max = 1000;
    // Whoever is not told waits for so long.
    config.acquire_timeout = Duration::from_secs(30);
    let postgres = PgPool::new(&config, "it-outage").expect("a connection pool");
    postgres.ready().await.expect("a running server");
    let (stop, up): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
    let workers: Vec<_> = (0..WORKERS).map(|_| work(&postgres, &stop, &up)).collect();
    tokio::time::sleep(ms(300)).await;

    server.kill();
    let killed = Instant::now();
    while postgres.stats().breaker.opened == 0 {
        assert!(killed.elapsed() < ms(5000), "{:?}", postgres.stats());
        tokio::time::sleep(ms(1)).await;
    }
    let opened = Instant::now();
    let before = postgres.stats().connect_failures;
    tokio::time::sleep(AWAY).await;
    let attempts = postgres.stats().connect_failures - before;
    tokio::task::block_in_place(|| server.restart());
    up.store(true, Ordering::Release);
    let back = Instant::now();
    tokio::time::sleep(ms(3000)).await;
    stop.store(true, Ordering::Relaxed);

    let mut told = Vec::new();
    let mut slowest_back = Duration::ZERO;
    for worker in workers {
        let worker = worker.await.expect("every error is of a kind expected");
        assert!(!worker.failed.is_empty(), "the outage was seen");
        let after = worker.failed.iter().filter(|(began, _)| *began < back);
        told.extend(after.map(|(began, took)| (*began + *took) - opened.max(*began)));
        let answered = worker.first_answer.expect("it works again");
        slowest_back = slowest_back.max(answered - back);
    }
    told.sort_unstable();
    let p99 = told[(told.len() - 1) * 99 / 100];
    let max = told[told.len() - 1];
    println!(
        "outage: opened {:?} after the kill; {} errors, told within p99 {p99:?}, max {max:?}; \
         {attempts} attempts in {AWAY:?}; all {WORKERS} workers answered {slowest_back:?} after up",
        opened - killed,
        told.len()
    );
    assert!(max < ms(5000), "a caller was told after {max:?}");
    // Twice the size per second, as a bound: it is about two.
    let bound = u64::from(2 * CONNECTIONS) * AWAY.as_secs();
    assert!(attempts <= bound, "{attempts} attempts to connect, {bound} are allowed");
    assert!(slowest_back < ms(3000), "{slowest_back:?}");
}

/// Whoever has a place sits on it, so no place comes free that would have the others look: they are
/// told when a health check finds that the server is away.
///
/// Fails when those who wait at the gate are not woken, and when the loss of the last connection is
/// not heard of.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_hear_of_an_outage_that_somebody_else_finds() {
    let server = PrivatePostgres::start().await;
    let mut config = postgres_config(&server.url());
    config.connections_max = CONNECTIONS;
    config.outage_grace = Duration::ZERO;
    // Whoever is not told waits for so long.
    config.acquire_timeout = Duration::from_secs(60);
    let postgres = PgPool::new(&config, "it-outage").expect("a connection pool");
    // All but the one that is kept for health checks.
    let held = (1..CONNECTIONS).map(|_| postgres.begin());
    let held = futures_util::future::join_all(held).await;
    assert!(held.iter().all(Result::is_ok), "{held:?}");
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let postgres = postgres.clone();
            tokio::spawn(async move { postgres.query(&PID, &[]).await })
        })
        .collect();
    while postgres.stats().waiting < 20 {
        tokio::time::sleep(ms(1)).await;
    }
    server.kill();
    let killed = Instant::now();
    let found = Deadline::after(Duration::from_secs(20)).scope(postgres.ready()).await;
    found.expect_err("the server is away");
    for wait in waiting {
        let told = tokio::time::timeout(Duration::from_secs(20), wait).await;
        let told = told.expect("who waits is told").expect("the task ends");
        assert!(matches!(told, Err(PgError::Unreachable { .. })), "{told:?}");
    }
    println!(
        "outage: a health check found it, 20 who wait were told within {:?}",
        killed.elapsed()
    );
}

/// Fails when only callers find out that the server is back: the first of them would be turned away.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_ends_although_nobody_asks() {
    let mut server = PrivatePostgres::start().await;
    let postgres =
        PgPool::new(&postgres_config(&server.url()), "it-outage").expect("a connection pool");
    postgres.ready().await.expect("a running server");
    server.kill();
    let error = postgres.ready().await.expect_err("the server is away");
    assert!(matches!(error, PgError::Unreachable { .. }), "{error:?}");
    tokio::task::block_in_place(|| server.restart());
    let back = Instant::now();
    while postgres.stats().breaker.state != BreakerState::Closed {
        let waited = back.elapsed();
        assert!(waited < Duration::from_secs(20), "not found again: {:?}", postgres.stats());
        tokio::time::sleep(ms(5)).await;
    }
    println!("outage: nobody asked, found again {:?} after up", back.elapsed());
    postgres.ready().await.expect("it was found again");
}

/// Fails without the grace, and when a read that lost its connection is not repeated: a restart
/// costs time, and no reader an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_costs_readers_no_error() {
    let _alone = ALONE.lock().await;
    let mut server = PrivatePostgres::start().await;
    let mut config = postgres_config(&server.url());
    config.connections_max = CONNECTIONS;
    config.waiting_max = 1000;
    config.acquire_timeout = Duration::from_secs(30);
    config.outage_grace = Duration::from_secs(25);
    let postgres = PgPool::new(&config, "it-outage").expect("a connection pool");
    let stop: Arc<AtomicBool> = Arc::default();
    let readers: Vec<_> = (0..50)
        .map(|_| {
            let (postgres, stop) = (postgres.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answers = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    postgres.query(&SLEEP, &[&0.001_f64]).await?;
                    answers += 1;
                }
                Ok::<_, PgError>(answers)
            })
        })
        .collect();
    tokio::time::sleep(ms(300)).await;
    server.kill();
    let down = Instant::now();
    tokio::time::sleep(ms(1100)).await;
    tokio::task::block_in_place(|| server.restart());
    let down = down.elapsed();
    postgres.ready().await.expect("a running server");
    tokio::time::sleep(ms(300)).await;
    stop.store(true, Ordering::Relaxed);
    let mut answers = 0;
    for reader in readers {
        answers += reader.await.expect("the task ends").expect("no reader sees an error");
    }
    println!("restart: down for {down:?}, 50 readers, {answers} answers, no error");
}
