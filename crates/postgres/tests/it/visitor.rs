//! The connections that nobody uses.

use forebay_pooling::CloseReason;
use forebay_postgres::PgTransaction;

use crate::support::{Fixture, ms};

async fn use_all(it: &Fixture, connections: u32) {
    let all = (0..connections).map(|_| it.postgres.begin());
    let all: Vec<PgTransaction> = futures_util::future::join_all(all)
        .await
        .into_iter()
        .map(|tx| tx.expect("a connection"))
        .collect();
    for tx in all {
        tx.rollback().await.expect("a rollback");
    }
}

/// Fails without the visitor, and when it closes those that are to be kept.
#[tokio::test]
async fn idle_connections_are_closed_down_to_the_minimum() {
    let it = Fixture::with(|config| {
        config.connections_max = 6;
        config.connections_min = 2;
        config.idle_timeout = ms(200);
    })
    .await;
    use_all(&it, 6).await;
    it.wait_for_stats(|stats| stats.connections == 2).await;
    it.wait_for_backends("%", 2).await;
    assert_eq!(it.postgres.stats().closed.of(CloseReason::Idle), 4);
    let kept = it.postgres.stats().created;
    // Several visits later they are still the same.
    tokio::time::sleep(ms(600)).await;
    let stats = it.postgres.stats();
    assert_eq!((stats.connections, stats.created), (2, kept));
}

/// Fails when nobody opens connections that nobody asks for.
#[tokio::test]
async fn the_minimum_is_open_before_anybody_asks_and_after_a_loss() {
    let it = Fixture::with(|config| config.connections_min = 3).await;
    it.wait_for_stats(|stats| stats.connections == 3 && stats.idle_connections == 3).await;
    it.terminate_backends().await;
    it.wait_for_backends("%", 0).await;
    it.pid().await;
    // What is dead counts until somebody looks: a visit, or a caller that comes across it.
    it.wait_for_backends("%", 3).await;
}

/// Fails when connections that are too old are closed together.
#[tokio::test]
async fn old_connections_are_replaced_one_at_a_time() {
    let it = Fixture::with(|config| {
        config.connections_max = 4;
        config.lifetime_max = ms(300);
        config.idle_timeout = ms(500);
        config.connections_min = 4;
    })
    .await;
    it.wait_for_stats(|stats| stats.connections == 4).await;
    let mut fewest = 4;
    loop {
        let stats = it.postgres.stats();
        fewest = fewest.min(stats.connections);
        if stats.closed.of(CloseReason::Lifetime) >= 4 {
            break;
        }
        tokio::time::sleep(ms(1)).await;
    }
    assert!(fewest >= 3, "only {fewest} were left");
    it.wait_for_stats(|stats| stats.connections == 4).await;
    assert!(it.postgres.stats().created >= 8, "each was replaced");
}
