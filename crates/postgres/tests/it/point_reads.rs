//! Lookups by key that travel together.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::Deadline;
use forebay_postgres::{PgError, PgTransaction, PointReads, PointReadsBounds, Sql};
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::support::{Fixture, ms};

const TABLE: Sql = Sql::new("CREATE TABLE points", "CREATE TABLE points (id bigint, value bigint)");
const FILL: Sql = Sql::new(
    "INSERT points",
    "INSERT INTO points SELECT id, id * 7 FROM generate_series(1, 1000) AS id",
);
const BY_IDS: Sql = Sql::new("SELECT points", "SELECT id, value FROM points WHERE id = ANY($1)");
/// The same, a second later.
const SLOWLY: Sql =
    Sql::new("SELECT points", "SELECT id, value FROM points, pg_sleep(1) WHERE id = ANY($1)");

type Points = PointReads<i64, i64>;

/// A table where the value of row `id` is `7 * id`, for 1 to 1,000.
async fn fixture(connections: u32) -> Fixture {
    let it = Fixture::new(connections).await;
    it.postgres.execute(&TABLE, &[]).await.expect("a table");
    it.postgres.execute(&FILL, &[]).await.expect("rows");
    it
}

fn points(it: &Fixture, sql: Sql, bounds: PointReadsBounds) -> Points {
    PointReads::new(it.postgres.clone(), sql, bounds, |row| Ok(row.try_get(1)?))
}

/// One batch at a time.
fn one_by_one(keys_max: usize) -> PointReadsBounds {
    PointReadsBounds { keys_max, batches_in_flight_max: 1, ..PointReadsBounds::default() }
}

/// Keeps the only connection, so that the first caller's batch departs and gets nowhere.
async fn block(it: &Fixture, points: &Points) -> (PgTransaction, JoinHandle<()>) {
    let tx = it.postgres.begin().await.expect("the only connection");
    let first = tokio::spawn({
        let points = points.clone();
        async move { assert_eq!(points.get(1).await.expect("an answer"), Some(7)) }
    });
    while points.stats().batches == 0 {
        tokio::task::yield_now().await;
    }
    (tx, first)
}

/// Spawns a lookup and waits until it has its place in the queue.
async fn queued(points: &Points, key: i64) -> JoinHandle<Result<Option<i64>, PgError>> {
    let before = points.stats().waiting;
    let caller = tokio::spawn({
        let points = points.clone();
        async move { points.get(key).await }
    });
    while points.stats().waiting == before {
        tokio::task::yield_now().await;
    }
    caller
}

/// Fails when a row is given to whoever is next instead of to whoever asked for its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_of_10_000_callers_gets_its_own_row() {
    let it = fixture(4).await;
    let bounds = PointReadsBounds { waiting_max: 10_000, ..PointReadsBounds::default() };
    let points = points(&it, BY_IDS, bounds);
    let callers: Vec<_> = (0..10_000_i64)
        .map(|number| {
            let points = points.clone();
            // Every tenth row does not exist, and every row is asked for by about nine callers.
            let key = number * 7919 % 1111 + 1;
            tokio::spawn(async move { (key, points.get(key).await) })
        })
        .collect();
    let mut absent = 0;
    for caller in callers {
        let (key, answer) = caller.await.expect("the task ends");
        let value = answer.expect("an answer");
        assert_eq!(value, (key <= 1000).then_some(key * 7), "key {key}");
        absent += u32::from(value.is_none());
    }
    let stats = points.stats();
    println!("10,000 lookups, {absent} absent: {stats:?}");
    assert!(absent > 900, "{absent}");
    assert_eq!((stats.waiting, stats.batches_in_flight), (0, 0));
    assert_eq!(stats.keys + stats.shared, 10_000, "{stats:?}");
    assert!(stats.batches < 5_000, "{stats:?}");
}

/// Fails when a key is looked up for each caller, or when a caller joins a batch that has departed.
#[tokio::test]
async fn a_key_that_several_wait_for_is_looked_up_once() {
    let it = fixture(1).await;
    let points = points(&it, BY_IDS, one_by_one(256));
    let (tx, first) = block(&it, &points).await;
    let mut callers = Vec::new();
    for key in [1, 2, 1, 2, 1, 5000] {
        callers.push(queued(&points, key).await);
    }
    assert_eq!(points.stats().shared, 3, "the batch under way holds key 1 and takes nobody");
    tx.rollback().await.expect("the connection back");
    first.await.expect("an answer");
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.expect("the task ends").expect("an answer"));
    }
    assert_eq!(answers, [Some(7), Some(14), Some(7), Some(14), Some(7), None]);
    let stats = points.stats();
    println!("7 lookups: {stats:?}");
    assert_eq!((stats.batches, stats.keys, stats.shared), (2, 4, 3));
}

/// Fails when batches are taken from the back of the queue.
#[tokio::test]
async fn callers_depart_in_the_order_they_came() {
    let it = fixture(1).await;
    let points = points(&it, BY_IDS, one_by_one(2));
    let (tx, first) = block(&it, &points).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for key in 2..=101 {
        let caller = queued(&points, key).await;
        let order = Arc::clone(&order);
        callers.push(tokio::spawn(async move {
            caller.await.expect("the task ends").expect("an answer");
            order.lock().push(key);
        }));
    }
    tx.rollback().await.expect("the connection back");
    first.await.expect("an answer");
    for caller in callers {
        caller.await.expect("the task ends");
    }
    let order = order.lock().clone();
    // Two travel together, and which of the two hears first is not promised.
    let inversions = order.chunks(2).zip((2..=101).step_by(2)).filter(|(pair, key)| {
        let mut pair = pair.to_vec();
        pair.sort_unstable();
        pair != [*key, key + 1]
    });
    let inversions = inversions.count();
    println!("100 lookups in batches of 2: {inversions} inversions");
    assert_eq!(inversions, 0, "departed out of order: {order:?}");
    assert_eq!(points.stats().batches, 51);
}

/// Fails when a dropped caller takes its batch along, or when its key is looked up all the same.
#[tokio::test]
async fn callers_that_go_away_change_nothing_for_the_others() {
    let it = fixture(1).await;
    let points = points(&it, BY_IDS, one_by_one(256));
    let (tx, first) = block(&it, &points).await;
    let mut callers = Vec::new();
    for key in 1..=100 {
        callers.push(queued(&points, key).await);
    }
    for caller in callers.iter().step_by(2) {
        caller.abort();
    }
    // The one whose batch is under way goes too.
    first.abort();
    for caller in callers.iter().step_by(2) {
        while !caller.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    tx.rollback().await.expect("the connection back");
    for (key, caller) in (1..).zip(callers).filter(|(key, _)| key % 2 == 0) {
        let answer = caller.await.expect("the task ends").expect("an answer");
        assert_eq!(answer, Some(key * 7));
    }
    let stats = points.stats();
    println!("100 lookups, half of them dropped: {stats:?}");
    assert_eq!((stats.batches, stats.keys), (2, 51), "keys are looked up for nobody");
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
}

/// Fails when the queue has no bound.
#[tokio::test]
async fn one_more_caller_than_may_wait_is_shed_at_once() {
    let it = fixture(1).await;
    let points = points(&it, BY_IDS, PointReadsBounds { waiting_max: 3, ..one_by_one(2) });
    let (tx, first) = block(&it, &points).await;
    let mut callers = Vec::new();
    for key in 2..=4 {
        callers.push(queued(&points, key).await);
    }
    let shed = points.get(5).await;
    assert!(matches!(shed, Err(PgError::Shed { waiting: 3, .. })), "{shed:?}");
    tx.rollback().await.expect("the connection back");
    first.await.expect("an answer");
    for caller in callers {
        caller.await.expect("the task ends").expect("an answer");
    }
    assert_eq!(points.stats().shed, 1);
}

/// Fails when a caller waits as long as its batch does, or is told the wrong reason.
#[tokio::test]
async fn each_caller_waits_until_its_own_deadline() {
    let it = fixture(1).await;
    let points = points(&it, SLOWLY, one_by_one(256));
    let patient = tokio::spawn({
        let points = points.clone();
        async move { points.get(1).await }
    });
    while points.stats().batches == 0 {
        tokio::task::yield_now().await;
    }
    // Its batch has not departed: it stands behind the one that sleeps.
    let behind = Deadline::after(ms(50)).scope(points.get(2)).await;
    assert!(matches!(behind, Err(PgError::Timeout { .. })), "{behind:?}");
    let answer = patient.await.expect("the task ends").expect("an answer");
    assert_eq!(answer, Some(7), "the other's deadline is not this caller's");
    let aboard = Deadline::after(ms(300)).scope(points.get(3)).await;
    assert!(matches!(aboard, Err(PgError::StatementTimeout { .. })), "{aboard:?}");
    // Nobody waits for it any more, so the statement is cancelled and the connection is free.
    it.wait_for_stats(|stats| stats.in_use_connections == 0).await;
    it.wait_for_backends("active", 0).await;
}

/// Fails when the error of one row is the error of its batch.
#[tokio::test]
async fn an_error_belongs_to_the_key_it_is_about() {
    const TWICE: Sql = Sql::new("INSERT points", "INSERT INTO points VALUES (4, 0)");
    let it = fixture(1).await;
    it.postgres.execute(&TWICE, &[]).await.expect("a row");
    let refuse_three = |row: &forebay_postgres::Row| match row.try_get(1)? {
        21 => Err(PgError::TransactionFailed),
        value => Ok(value),
    };
    let points: Points =
        PointReads::new(it.postgres.clone(), BY_IDS, one_by_one(256), refuse_three);
    let (tx, first) = block(&it, &points).await;
    let mut callers = Vec::new();
    for key in 2..=5 {
        callers.push(queued(&points, key).await);
    }
    tx.rollback().await.expect("the connection back");
    first.await.expect("an answer");
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(caller.await.expect("the task ends"));
    }
    let [
        Ok(Some(14)),
        Err(PgError::TransactionFailed),
        Err(PgError::RowCount { .. }),
        Ok(Some(35)),
    ] = answers.as_slice()
    else {
        panic!("{answers:?}");
    };
}

/// Fails when a panic leaves a batch counted as under way for ever, or the queue without a task.
#[tokio::test]
async fn a_panic_while_reading_a_row_ends_with_its_batch() {
    let it = fixture(1).await;
    let panics = |row: &forebay_postgres::Row| match row.try_get(1)? {
        14 => panic!("the row is not understood"),
        value => Ok(value),
    };
    let points: Points = PointReads::new(it.postgres.clone(), BY_IDS, one_by_one(1), panics);
    let (tx, first) = block(&it, &points).await;
    let unlucky = queued(&points, 2).await;
    let behind = queued(&points, 3).await;
    tx.rollback().await.expect("the connection back");
    first.await.expect("an answer");
    let lost = unlucky.await.expect("the task ends");
    assert!(matches!(lost, Err(PgError::ConnectionLost { .. })), "{lost:?}");
    assert_eq!(behind.await.expect("the task ends").expect("an answer"), Some(21));
    assert_eq!(points.get(4).await.expect("an answer"), Some(28));
    assert_eq!(points.stats().batches_in_flight, 0);
}

/// Fails when the task that sends batches leaves its queue behind as it is dropped, or starts
/// another one where none can be.
#[test]
fn a_runtime_that_ends_keeps_nobody_waiting() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let (ends, stays) = (runtime(), runtime());
    let (it, points, tx, waiting) = ends.block_on(async {
        let it = fixture(1).await;
        let points = points(&it, BY_IDS, one_by_one(1));
        let (tx, _first) = block(&it, &points).await;
        let waiting: Vec<_> = (2..10)
            .map(|key| {
                let points = points.clone();
                stays.spawn(async move { points.get(key).await })
            })
            .collect();
        while points.stats().waiting < waiting.len() {
            tokio::task::yield_now().await;
        }
        (it, points, tx, waiting)
    });
    drop(ends);
    let lost = stays.block_on(async {
        let mut lost = 0;
        for caller in waiting {
            let answer = caller.await.expect("the task ends");
            lost += u32::from(matches!(answer, Err(PgError::ConnectionLost { .. })));
        }
        lost
    });
    println!("8 lookups waited as the runtime ended: {lost} are told");
    assert_eq!(lost, 8);
    assert_eq!((points.stats().waiting, points.stats().batches_in_flight), (0, 0));
    let _runtime = stays.enter();
    drop((tx, it));
}

/// Fails when a batch is not repeated on another connection.
#[tokio::test]
async fn a_killed_backend_is_not_seen_by_any_caller_of_its_batch() {
    let it = fixture(2).await;
    let points = points(&it, SLOWLY, one_by_one(256));
    let mut callers = Vec::new();
    for key in 1..=20 {
        callers.push(tokio::spawn({
            let points = points.clone();
            async move { (key, points.get(key).await) }
        }));
    }
    it.wait_for_backends("active", 1).await;
    let killed = it.terminate_backends().await;
    for caller in callers {
        let (key, answer) = caller.await.expect("the task ends");
        assert_eq!(answer.expect("an answer"), Some(key * 7));
    }
    println!("{killed} backends killed under {:?}", points.stats());
    assert!(killed > 0, "{killed}");
    // Generous: what matters is that nobody waits for ever.
    let again = tokio::time::timeout(Duration::from_secs(30), points.get(1)).await;
    assert_eq!(again.expect("in time").expect("an answer"), Some(7));
}
