//! Callers that wait for a connection.

use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_postgres::PgError;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::support::{Fixture, PID, SLEEP, ms};

/// Fails without the gate: bb8 lets newcomers pass those who wait.
#[tokio::test]
async fn waiters_are_served_in_the_order_they_came() {
    let it = Fixture::new(1).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let held = it.postgres.begin().await.expect("the only connection");
    let mut tasks = Vec::new();
    for number in 0..60_u32 {
        let (postgres, order) = (it.postgres.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            postgres.query(&PID, &[]).await.expect("its turn");
            order.lock().await.push(number);
        }));
        it.wait_for_stats(|stats| stats.waiting == number + 1).await;
    }
    held.rollback().await.expect("a rollback");
    for task in tasks {
        task.await.expect("the task ends");
    }
    assert_eq!(*order.lock().await, (0..60).collect::<Vec<_>>());
}

/// Fails without the bound of the queue.
#[tokio::test]
async fn one_more_waiter_than_allowed_is_shed_at_once() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.waiting_max = 2;
    })
    .await;
    let held = it.postgres.begin().await.expect("the only connection");
    let waiters: Vec<_> = (0..2)
        .map(|_| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move { postgres.query(&PID, &[]).await.map(drop) })
        })
        .collect();
    it.wait_for_stats(|stats| stats.waiting == 2).await;
    let started = Instant::now();
    let shed = it.postgres.query(&PID, &[]).await;
    assert!(matches!(shed, Err(PgError::Shed { waiting: 2, predicted: None })), "{shed:?}");
    assert!(started.elapsed() < ms(50));
    assert_eq!(it.postgres.stats().shed, 1);
    held.rollback().await.expect("a rollback");
    for waiter in waiters {
        waiter.await.expect("the task ends").expect("its turn");
    }
}

#[tokio::test]
async fn a_wait_ends_in_time_and_names_who_holds_the_connections() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.acquire_timeout = ms(200);
    })
    .await;
    let _held = it.postgres.begin().await.expect("the only connection");
    for (deadline, expected) in [(ms(5000), ms(200)), (ms(50), ms(50))] {
        let started = Instant::now();
        let outcome = Deadline::after(deadline).scope(it.postgres.query(&PID, &[])).await;
        let Err(PgError::Timeout { waited, in_use: 1, limbo: 0, holders }) = &outcome else {
            panic!("expected a timeout, got {outcome:?}");
        };
        assert!(*waited >= expected && started.elapsed() < expected + ms(150), "{waited:?}");
        assert_eq!(holders.len(), 1);
        assert!(holders[0].to_string().contains("tests/it/queue.rs:"), "{}", holders[0]);
    }
    assert_eq!(it.postgres.stats().timeouts, 2);
}

/// A caller that waits has no timer and listens to nothing: one task of the connection pool looks
/// after all of them.
///
/// Fails when that task does not end waits whose time is over, and when nobody tells it of one that
/// ends before those it knows.
#[tokio::test]
async fn waits_end_in_time_without_timers_of_their_own() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.acquire_timeout = ms(400);
    })
    .await;
    let _held = it.postgres.begin().await.expect("the only connection");
    let waits = [400, 50, 200].map(|patience| {
        let postgres = it.postgres.clone();
        tokio::spawn(
            async move { Deadline::after(ms(patience)).scope(postgres.query(&PID, &[])).await },
        )
    });
    for wait in waits {
        // Far from what else would wake that task: the server ends the idle transaction after 10 s.
        let outcome = timeout(Duration::from_secs(5), wait).await.expect("a wait ends in time");
        let outcome = outcome.expect("the task ends");
        assert!(matches!(outcome, Err(PgError::Timeout { .. })), "{outcome:?}");
    }
}

/// Each waiter finds the one connection with the permit that it is given, and nobody asks bb8 for it.
///
/// Fails when what the holder before passed on is left where it is: nobody else can use it.
#[tokio::test]
async fn a_connection_is_passed_on_with_its_permit() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.acquire_timeout = Duration::from_secs(10);
    })
    .await;
    let before = it.pid().await;
    let held = it.postgres.begin().await.expect("the only connection");
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move { postgres.query_one(&PID, &[]).await })
        })
        .collect();
    it.wait_for_stats(|stats| stats.waiting == 50).await;
    held.rollback().await.expect("a rollback");
    for waiter in waiters {
        let row = waiter.await.expect("the task ends").expect("the connection with the permit");
        assert_eq!(row.get::<_, i32>(0), before);
    }
    assert_eq!(it.postgres.stats().created, 1);
}

/// Many callers, few connections: everyone gets an answer, and no more connections are opened.
#[tokio::test]
async fn many_callers_share_few_connections() {
    let it = Fixture::with(|config| {
        config.connections_max = 4;
        config.waiting_max = 1000;
    })
    .await;
    let tasks: Vec<_> = (0..500)
        .map(|_| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move { postgres.query(&SLEEP, &[&0.001_f64]).await.map(drop) })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends").expect("its turn");
    }
    let stats = it.postgres.stats();
    assert_eq!((stats.created, stats.connections, stats.idle_connections), (4, 4, 4));
}
