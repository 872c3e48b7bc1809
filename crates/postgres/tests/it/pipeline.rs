//! Short reads that share connections.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use forebay_pooling::Deadline;
use forebay_postgres::{PgError, PgPool, Sql};
use tokio::task::JoinHandle;

use crate::support::{Fixture, PID, SLEEP, ms};

/// The parameter comes back, so a foreign answer is seen.
const ECHO: Sql = Sql::new("SELECT echo", "SELECT $1::bigint, $2::text").pipelined();
/// Takes `$1` seconds and gives `$2` back.
const SLOW: Sql =
    Sql::new("SELECT pg_sleep", "SELECT $2::bigint FROM pg_sleep($1::float8)").pipelined();
/// The place of the statement among all of its kind, as the server executed them.
const PLACE: Sql = Sql::new("SELECT nextval", "SELECT nextval('places')").pipelined();
const SEQUENCE: Sql = Sql::new("CREATE SEQUENCE places", "CREATE SEQUENCE places");

async fn echo(postgres: &PgPool, number: i64) -> Result<(i64, Option<String>), PgError> {
    let text = (number % 3 != 0).then(|| format!("text {number}"));
    let row = postgres.query_one(&ECHO, &[&number, &text]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn is_own(number: i64, answer: &(i64, Option<String>)) -> bool {
    let text = (number % 3 != 0).then(|| format!("text {number}"));
    *answer == (number, text)
}

/// The first call of a text has a connection of its own; the tests are about those after it.
async fn learn(it: &Fixture) {
    echo(&it.postgres, 1).await.expect("an answer");
    it.postgres.query(&SLOW, &[&0.0_f64, &0_i64]).await.expect("an answer");
    it.postgres.execute(&SEQUENCE, &[]).await.expect("a sequence");
    it.postgres.query(&PLACE, &[]).await.expect("an answer");
    assert_eq!(it.postgres.pipeline_stats().sent, 0);
}

/// Spawns a slow read and waits until it is sent.
async fn sent(it: &Fixture, seconds: f64, number: i64) -> JoinHandle<Result<i64, PgError>> {
    let before = it.postgres.pipeline_stats().sent;
    let postgres = it.postgres.clone();
    let caller = tokio::spawn(async move {
        postgres.query_one(&SLOW, &[&seconds, &number]).await?.try_get(0).map_err(PgError::from)
    });
    while it.postgres.pipeline_stats().sent == before {
        tokio::task::yield_now().await;
    }
    caller
}

/// Fails when answers are handed out in another order than the statements were sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_10_000_reads_gets_its_own_answer() {
    let it = Fixture::with(|config| {
        config.connections_max = 8;
        config.waiting_max = 10_000;
    })
    .await;
    learn(&it).await;
    let callers: Vec<_> = (0..10_000_i64)
        .map(|number| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move { (number, echo(&postgres, number).await) })
        })
        .collect();
    for caller in callers {
        let (number, answer) = caller.await.expect("the task ends");
        let answer = answer.expect("an answer");
        assert!(is_own(number, &answer), "{number}: {answer:?}");
    }
    let (pipeline, stats) = (it.postgres.pipeline_stats(), it.postgres.stats());
    println!("10,000 reads on {} connections: {pipeline:?}", stats.created);
    assert_eq!(pipeline.sent, 10_000);
    // A quarter of 8, and the one that learned.
    assert!(stats.created <= 3, "{stats:?}");
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
}

/// Fails when a pipe takes its statements from the back of the queue, or sends them out of order.
#[tokio::test]
async fn statements_are_sent_in_the_order_they_came() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.waiting_max = 1000;
    })
    .await;
    learn(&it).await;
    let tx = it.postgres.begin().await.expect("the only connection");
    let mut callers = Vec::new();
    for number in 0..500 {
        let postgres = it.postgres.clone();
        callers.push(tokio::spawn(async move {
            let row = postgres.query_one(&PLACE, &[]).await.expect("an answer");
            row.get::<_, i64>(0)
        }));
        while it.postgres.pipeline_stats().waiting != number + 1 {
            tokio::task::yield_now().await;
        }
    }
    tx.rollback().await.expect("the connection back");
    let mut places = Vec::new();
    for caller in callers {
        places.push(caller.await.expect("the task ends"));
    }
    let inversions = places.windows(2).filter(|pair| pair[0] > pair[1]).count();
    println!("500 reads on one connection: {inversions} inversions");
    assert_eq!(inversions, 0, "sent out of order: {places:?}");
}

/// Fails when the statements of a pipe wait for each other's answers.
#[tokio::test]
async fn many_statements_are_under_way_on_one_connection() {
    let it = Fixture::new(1).await;
    learn(&it).await;
    let mut callers = Vec::new();
    for number in 0..10 {
        callers.push(sent(&it, 0.05, number).await);
    }
    let (pipeline, stats) = (it.postgres.pipeline_stats(), it.postgres.stats());
    println!("{} under way on {} connection", pipeline.in_flight, stats.in_use_connections);
    assert!(pipeline.in_flight > 5, "they wait for each other: {pipeline:?}");
    assert_eq!((pipeline.pipes, stats.in_use_connections, stats.created), (1, 1, 1));
    for (number, caller) in (0..).zip(callers) {
        assert_eq!(caller.await.expect("the task ends").expect("an answer"), number);
    }
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
    assert_eq!(it.postgres.pipeline_stats().pipes, 0, "released when idle");
}

/// Fails when a dropped caller's statement is cancelled on the server, which hits whatever runs
/// there, or when its connection is closed.
#[tokio::test]
async fn callers_that_go_away_change_nothing_for_the_others() {
    let it = Fixture::new(1).await;
    learn(&it).await;
    let mut callers = vec![sent(&it, 0.3, 0).await];
    for number in 1..=30 {
        callers.push(sent(&it, 0.001, number).await);
    }
    // More than a pipe takes: these wait.
    for number in 31..=60_i64 {
        let postgres = it.postgres.clone();
        let before = it.postgres.pipeline_stats();
        callers.push(tokio::spawn(async move {
            let row = postgres.query_one(&SLOW, &[&0.001_f64, &number]).await?;
            row.try_get(0).map_err(PgError::from)
        }));
        while it.postgres.pipeline_stats() == before {
            tokio::task::yield_now().await;
        }
    }
    let sent_before = it.postgres.pipeline_stats().sent;
    for caller in callers.iter().step_by(2) {
        caller.abort();
    }
    for (number, caller) in (0_i64..).zip(callers) {
        let answer = caller.await;
        if number % 2 == 0 {
            assert!(answer.is_err_and(|error| error.is_cancelled()), "{number}");
        } else {
            assert_eq!(answer.expect("the task ends").expect("an answer"), number);
        }
    }
    let (pipeline, stats) = (it.postgres.pipeline_stats(), it.postgres.stats());
    println!("31 of 61 callers dropped, {sent_before} statements sent before: {pipeline:?}");
    assert_eq!((stats.created, stats.discarded), (1, 0), "{stats:?}");
    // What was not sent when its caller went away was not sent at all.
    assert!(pipeline.sent <= sent_before + 15, "sent for nobody: {pipeline:?}");
}

/// Fails when a read whose connection died is not read again.
#[tokio::test]
async fn killed_backends_are_not_seen_by_readers() {
    let it = Fixture::new(8).await;
    learn(&it).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..64_i64)
        .map(|reader| {
            let (postgres, stop) = (it.postgres.clone(), Arc::clone(&stop));
            let answered = Arc::clone(&answered);
            tokio::spawn(async move {
                let mut number = reader << 32;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let answer = echo(&postgres, number).await?;
                    assert!(is_own(number, &answer), "{number}: {answer:?}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, PgError>(())
            })
        })
        .collect();
    let mut killed = 0;
    for _ in 0..20 {
        // Every reader gets a few answers between two kills: a statement that is killed again and
        // again on a slow machine would prove nothing.
        let enough = answered.load(Ordering::Relaxed) + 640;
        while answered.load(Ordering::Relaxed) < enough
            && !readers.iter().any(JoinHandle::is_finished)
        {
            tokio::time::sleep(ms(1)).await;
        }
        killed += it.terminate_backends().await;
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("the task ends").expect("no reader sees an error");
    }
    println!("{killed} backends killed under {answered:?} answers, no error");
    assert!(killed >= 20, "{killed}");
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
}

/// Fails when the queue has no bound.
#[tokio::test]
async fn one_more_statement_than_may_wait_is_shed_at_once() {
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.waiting_max = 3;
    })
    .await;
    learn(&it).await;
    let tx = it.postgres.begin().await.expect("the only connection");
    let mut callers = Vec::new();
    for number in 0..3 {
        let postgres = it.postgres.clone();
        callers.push(tokio::spawn(async move { echo(&postgres, number).await }));
    }
    while it.postgres.pipeline_stats().waiting < 3 {
        tokio::task::yield_now().await;
    }
    let shed = echo(&it.postgres, 4).await;
    assert!(matches!(shed, Err(PgError::Shed { waiting: 3, .. })), "{shed:?}");
    // Those who went away take no place from those who come.
    let gone = callers.pop().expect("a caller");
    gone.abort();
    assert!(gone.await.is_err_and(|error| error.is_cancelled()));
    let late = Deadline::after(ms(50)).scope(Box::pin(echo(&it.postgres, 5))).await;
    assert!(matches!(late, Err(PgError::Timeout { .. })), "{late:?}");
    tx.rollback().await.expect("the connection back");
    for caller in callers {
        caller.await.expect("the task ends").expect("an answer");
    }
    assert_eq!(it.postgres.pipeline_stats().shed, 1);
}

/// Fails when statements are sent behind one that has been slow for a while.
#[tokio::test]
async fn a_slow_statement_does_not_hold_up_those_that_come_later() {
    let it = Fixture::new(8).await;
    learn(&it).await;
    let slow = sent(&it, 3.0, 0).await;
    // Longer than a statement may take before its pipe counts as slow.
    tokio::time::sleep(ms(400)).await;
    for number in 1..=100 {
        echo(&it.postgres, number).await.expect("an answer");
    }
    println!("100 reads beside a slow one: {:?}", it.postgres.pipeline_stats());
    assert!(!slow.is_finished(), "the others waited for it");
    assert_eq!(slow.await.expect("the task ends").expect("an answer"), 0);
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
    assert_eq!(it.postgres.pipeline_stats().pipes, 0);
}

/// Fails when a pipe keeps its connection for as long as it has something to send.
#[tokio::test]
async fn others_get_their_turn_with_the_only_connection() {
    let it = Fixture::new(1).await;
    learn(&it).await;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..8_i64)
        .map(|number| {
            let (postgres, stop) = (it.postgres.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // Long enough that the answers come one by one: each reader asks again while
                    // the others' statements are still under way.
                    postgres.query(&SLOW, &[&0.004_f64, &number]).await?;
                }
                Ok::<_, PgError>(())
            })
        })
        .collect();
    for _ in 0..10 {
        it.postgres.query(&PID, &[]).await.expect("a turn within the acquire timeout");
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("the task ends").expect("no reader sees an error");
    }
    println!("10 turns beside {:?}", it.postgres.pipeline_stats());
}

/// Fails when parameters are sent in the form that an earlier schema asked for.
#[tokio::test]
async fn a_changed_schema_is_noticed() {
    const BY_ID: Sql =
        Sql::new("SELECT kinds", "SELECT name FROM kinds WHERE id = $1 AND name <> ''").pipelined();
    let it = Fixture::new(4).await;
    let ddl = |text: &'static str| {
        let postgres = it.postgres.clone();
        async move {
            let sql = Sql::new("ALTER kinds", text);
            postgres.execute(&sql, &[]).await.expect("the schema changes");
        }
    };
    ddl("CREATE TABLE kinds (id integer, name varchar(9))").await;
    ddl("INSERT INTO kinds VALUES (1, 'one')").await;
    for _ in 0..3 {
        assert_eq!(it.postgres.query(&BY_ID, &[&1_i32]).await.expect("rows").len(), 1);
    }
    // Its plan is of no use any more.
    ddl("ALTER TABLE kinds ALTER name TYPE text").await;
    for _ in 0..3 {
        let row = it.postgres.query_one(&BY_ID, &[&1_i32]).await.expect("a row");
        assert_eq!(row.get::<_, &str>(0), "one");
    }
    // On new connections its parameter is of another type, and the caller's has to follow.
    ddl("ALTER TABLE kinds ALTER id TYPE bigint").await;
    it.terminate_backends().await;
    it.wait_for_backends("%", 0).await;
    let mistyped = it.postgres.query(&BY_ID, &[&1_i32]).await;
    assert!(matches!(mistyped, Err(PgError::Mismatch { .. })), "{mistyped:?}");
    for _ in 0..3 {
        assert_eq!(it.postgres.query(&BY_ID, &[&1_i64]).await.expect("rows").len(), 1);
    }
    println!("reads around a change of types: {:?}", it.postgres.pipeline_stats());
}

/// Behind a transaction pooler statements have no names.
#[tokio::test]
async fn unnamed_statements_share_connections_too() {
    let it = Fixture::with(|config| {
        config.connections_max = 4;
        config.url = forebay_config::Secret::new(format!("{}?pgbouncer=true", config.url.expose()));
    })
    .await;
    learn(&it).await;
    let callers: Vec<_> = (0..60_i64)
        .map(|number| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move { (number, echo(&postgres, number).await) })
        })
        .collect();
    for caller in callers {
        let (number, answer) = caller.await.expect("the task ends");
        assert!(is_own(number, &answer.expect("an answer")), "{number}");
    }
    assert_eq!(it.postgres.pipeline_stats().sent, 60);
    it.postgres.query(&SLEEP, &[&0.0_f64]).await.expect("an answer");
}
