//! A server that goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_postgres::{PgError, PgPool};
use forebay_testkit::{PrivatePostgres, postgres_config};
use tokio::time::Instant;

use crate::support::{PID, ms};

/// Fails when callers wait out their time while the server is down, when anything else than the
/// cause is reported, or when somebody has to restart us for it to work again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_noticed_at_once_and_found_again() {
    let mut server = PrivatePostgres::start().await;
    let mut config = postgres_config(&server.url());
    config.connections_max = 8;
    let postgres = PgPool::new(&config, "it-recover").expect("a connection pool");
    postgres.ready().await.expect("a running server");

    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..16)
        .map(|_| {
            let (postgres, stop) = (postgres.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut slowest, mut failed) = (ms(0), 0_u32);
                while !stop.load(Ordering::Relaxed) {
                    let started = Instant::now();
                    match postgres.query(&PID, &[]).await {
                        Ok(_) => {}
                        Err(error) => {
                            let is_cause = matches!(
                                error,
                                PgError::Unreachable { .. } | PgError::ConnectionLost { .. }
                            );
                            assert!(is_cause && error.retry_after().is_some(), "{error:?}");
                            failed += 1;
                            slowest = slowest.max(started.elapsed());
                            tokio::time::sleep(ms(1)).await;
                        }
                    }
                }
                (slowest, failed)
            })
        })
        .collect();

    server.kill();
    tokio::time::sleep(ms(1000)).await;
    let attempts = postgres.stats().connect_failures;
    // Pauses grow to a quarter of a second, so a second of outage costs a few attempts and no storm.
    assert!(attempts < 60, "{attempts} attempts to connect in a second");
    tokio::task::block_in_place(|| server.restart());

    let back = Instant::now();
    while let Err(error) = postgres.ready().await {
        assert!(back.elapsed() < ms(3000), "{error:?}");
        tokio::time::sleep(ms(5)).await;
    }
    assert!(back.elapsed() < ms(1000), "found again after {:?}", back.elapsed());
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        let (slowest, failed) = worker.await.expect("errors are of the kinds expected");
        assert!(failed > 0, "the outage was seen");
        assert!(slowest < ms(500), "an error took {slowest:?}");
    }
}

/// A service starts while its database is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_pool_starts_before_its_server() {
    let mut server = PrivatePostgres::start().await;
    server.kill();
    let config = postgres_config(&server.url());
    let postgres = PgPool::new(&config, "it-recover").expect("a connection pool");
    let error = postgres.ready().await.expect_err("the server is down");
    assert!(matches!(error, PgError::Unreachable { .. }), "{error:?}");
    tokio::task::block_in_place(|| server.restart());
    let back = Instant::now();
    while let Err(error) = postgres.ready().await {
        assert!(back.elapsed() < ms(1000), "{error:?}");
        tokio::time::sleep(ms(5)).await;
    }
}

/// Fails when the check of an idle connection is not cut to the acquire timeout: seven frozen
/// connections would be checked one after the other, a second each.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_holds_nobody_beyond_his_time() {
    let server = PrivatePostgres::start().await;
    let mut config = postgres_config(&server.url());
    config.connections_max = 7;
    config.acquire_timeout = ms(300);
    let postgres = PgPool::new(&config, "it-recover").expect("a connection pool");
    let all = (0..7).map(|_| postgres.begin());
    for tx in futures_util::future::join_all(all).await {
        tx.expect("a transaction").commit().await.expect("a commit");
    }
    assert_eq!(postgres.stats().idle_connections, 7);
    // Longer than an idle connection is trusted without a check.
    tokio::time::sleep(ms(600)).await;
    server.stop();
    let started = Instant::now();
    let error = postgres.ready().await.expect_err("a frozen server");
    assert!(error.is_unavailable(), "{error:?}");
    assert!(started.elapsed() < ms(600), "{:?} {error:?}", started.elapsed());

    server.cont();
    let back = Instant::now();
    while let Err(error) = postgres.ready().await {
        assert!(back.elapsed() < ms(2000), "{error:?}");
        tokio::time::sleep(ms(5)).await;
    }
}
