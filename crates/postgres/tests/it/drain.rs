//! The end of a connection pool.

use forebay_pooling::Deadline;
use forebay_postgres::PgError;
use tokio::time::Instant;

use crate::support::{Fixture, PID, SLEEP, ms};

/// Fails when idle connections stay open, or when callers are still let in.
#[tokio::test]
async fn a_drained_connection_pool_is_closed() {
    let it = Fixture::new(2).await;
    let (one, two) = tokio::join!(it.postgres.begin(), it.postgres.begin());
    one.expect("a transaction").rollback().await.expect("a rollback");
    two.expect("a transaction").rollback().await.expect("a rollback");
    assert_eq!(it.postgres.stats().idle_connections, 2);
    let busy = tokio::spawn({
        let postgres = it.postgres.clone();
        async move { postgres.query(&SLEEP, &[&0.2_f64]).await.map(drop) }
    });
    it.wait_for_stats(|stats| stats.in_use_connections == 1).await;
    assert_eq!(it.postgres.drain(Deadline::after(ms(5000))).await, 0);
    busy.await.expect("the task ends").expect("work under way is finished");
    let late = it.postgres.query(&PID, &[]).await;
    assert!(matches!(late, Err(PgError::Draining)), "{late:?}");
    it.wait_for_backends("%", 0).await;
}

#[tokio::test]
async fn a_drain_returns_at_its_deadline() {
    let it = Fixture::new(1).await;
    let held = it.postgres.begin().await.expect("the only connection");
    let waiting = tokio::spawn({
        let postgres = it.postgres.clone();
        async move { postgres.query(&PID, &[]).await.map(drop) }
    });
    it.wait_for_stats(|stats| stats.waiting == 1).await;
    let started = Instant::now();
    assert_eq!(it.postgres.drain(Deadline::after(ms(100))).await, 1);
    assert!(started.elapsed() < ms(500), "{:?}", started.elapsed());
    let turned_away = waiting.await.expect("the task ends");
    assert!(matches!(turned_away, Err(PgError::Draining)), "{turned_away:?}");
    // What comes back late is closed, not kept.
    drop(held);
    it.wait_for_backends("%", 0).await;
}
