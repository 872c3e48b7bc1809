//! Backends that an operator ends while the connection pool is under load.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use forebay_pooling::Priority;
use forebay_postgres::{PgError, PgPool, PgTx, Sql, ToSql, TxOptions};
use tokio::time::Instant;

use crate::support::{CREATE_TABLE, Fixture, INSERT, PID, SLEEP, ms};

const CONNECTIONS: u32 = 8;
const READERS: usize = 8;
const WRITERS: u32 = 4;
const KILLS: u32 = 100;

/// What became of the writes of one task.
#[derive(Default)]
struct Written {
    done: Vec<i64>,
    not_done: Vec<i64>,
    unknown: Vec<i64>,
}

/// 100 backends are ended in the middle of a statement. No reader sees an error, and every write is
/// there once, or not, or its caller was told that nobody knows.
///
/// Fails without the repetition of reads (a reader sees a lost connection), when a lost write is
/// repeated (a unique key is refused) or called undone (its row is there), and when connections
/// that died are not replaced.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_killed_backends_no_reader_hears() {
    let it = Fixture::new(CONNECTIONS).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let stop = Arc::new(AtomicBool::new(false));
    let answers: Arc<[AtomicU32; READERS]> = Arc::default();
    let readers: Vec<_> = (0..READERS)
        .map(|reader| {
            let (postgres, stop) = (it.postgres.clone(), Arc::clone(&stop));
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    postgres.query(&SLEEP, &[&0.002_f64]).await?;
                    answers[reader].fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, PgError>(())
            })
        })
        .collect();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(it.postgres.clone(), writer, Arc::clone(&stop))))
        .collect();

    let (mut kills, mut killed_writes) = (0, 0);
    while kills < KILLS && !readers.iter().any(tokio::task::JoinHandle::is_finished) {
        // Retries are a tenth of what succeeds, so a kill waits until that much has succeeded: 16
        // reads and whatever is written.
        let before = answers.each_ref().map(|count| count.load(Ordering::Relaxed));
        let progressed = || {
            let now = answers.each_ref().map(|count| count.load(Ordering::Relaxed));
            now.iter().zip(before).all(|(now, before)| *now > before + 1)
        };
        while !progressed() && !readers.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(ms(1)).await;
        }
        if let Some(statement) = it.terminate_one().await {
            kills += 1;
            killed_writes += u32::from(statement.starts_with("INSERT"));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("the task ends").expect("no reader sees an error");
    }
    let mut all = Written::default();
    for writer in writers {
        let written = writer.await.expect("every error of a writer is expected");
        all.done.extend(written.done);
        all.not_done.extend(written.not_done);
        all.unknown.extend(written.unknown);
    }
    let back = refill(&it).await;

    let stats = it.postgres.stats();
    let reads: u32 = answers.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!(
        "{kills} kills, {killed_writes} of them of a write: {reads} reads with 0 errors and {} \
         retries ({} denied); {} writes done, {} not, {} unknown; {CONNECTIONS} connections again \
         {} ms after all were ended",
        stats.retries,
        stats.retries_denied,
        all.done.len(),
        all.not_done.len(),
        all.unknown.len(),
        back.as_millis()
    );
    let rows = rows(&it.postgres).await;
    assert!(all.done.iter().all(|id| rows.contains(id)), "a write that was done is there");
    assert!(!all.not_done.iter().any(|id| rows.contains(id)), "one that was not done is not");
    let found = all.unknown.iter().filter(|id| rows.contains(id)).count();
    assert_eq!(rows.len(), all.done.len() + found, "no row has another origin");
    let unknown = u64::try_from(all.unknown.len()).expect("a small number");
    assert_eq!(stats.unknown_outcomes, unknown, "an operator sees what callers were told");
    // A kill may come just after the answer, but not every time.
    assert!(unknown > 0, "{killed_writes} writes were killed and no caller was told");
    assert!(kills == KILLS && stats.retries > 20, "{kills} kills, {stats:?}");
    assert!(back < ms(1000), "{CONNECTIONS} connections after {back:?}");
}

/// Every backend is ended in the middle of a statement, again and again, and each statement is
/// answered in the end.
///
/// Fails when each of them takes a token of the budget: it has ten, and as much as succeeds in
/// between earns none.
#[tokio::test(flavor = "multi_thread")]
async fn all_backends_killed_at_once_are_one_event() {
    const ROUNDS: u32 = 10;
    /// A busy machine takes a while to start all of them.
    const NAP_S: f64 = 2.0;
    let it = Fixture::new(CONNECTIONS).await;
    let readers = || (0..7).map(|_| it.postgres.query(&SLEEP, &[&NAP_S]));
    for reader in futures_util::future::join_all(readers()).await {
        reader.expect("every connection has answered");
    }
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let read = futures_util::future::join_all(readers());
        let kill = async {
            it.wait_for_backends("active", 7).await;
            ended += it.terminate_backends().await;
        };
        let (answers, ()) = futures_util::future::join(read, kill).await;
        for answer in answers {
            answer.expect("no reader sees an error");
        }
    }
    let stats = it.postgres.stats();
    println!("{ended} backends ended, {} retries, {} denied", stats.retries, stats.retries_denied);
    // On a busy machine a nap may be over before its end arrives, but not every time.
    assert!(stats.retries > u64::from(4 * ROUNDS) && stats.retries_denied == 0, "{stats:?}");
}

/// The session of one and the same work is ended more often than work has tries, and it is answered
/// in the end.
///
/// Fails when a session that an administrator ended counts as a try.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_ended_by_an_administrator_has_used_up_no_try() {
    const TIMES: u64 = 8;
    let it = Arc::new(Fixture::new(CONNECTIONS).await);
    // All connections have served, so that each of them pays for its own loss.
    let warm = (0..7).map(|_| it.postgres.query(&SLEEP, &[&0.2_f64]));
    for answer in futures_util::future::join_all(warm).await {
        answer.expect("every connection has answered");
    }
    for is_closure in [false, true] {
        let postgres = it.postgres.clone();
        let work = tokio::spawn(async move {
            let nap: [&(dyn ToSql + Sync); 1] = [&0.5_f64];
            if is_closure {
                let work = |mut tx: PgTx| async move { tx.query(&SLEEP, &nap).await.map(drop) };
                postgres.tx(TxOptions::default(), work).await
            } else {
                postgres.query(&SLEEP, &nap).await.map(drop)
            }
        });
        let (started, before) = (Instant::now(), it.postgres.stats().retries);
        let retried = || it.postgres.stats().retries - before;
        while retried() < TIMES && !work.is_finished() {
            it.terminate_one().await;
        }
        let outcome = work.await.expect("the task ends");
        let (retried, took) = (retried(), started.elapsed());
        println!("closure {is_closure}: ended {retried} times in {took:?}, then {outcome:?}");
        outcome.expect("what was ended so often is done in the end");
        assert!(retried >= TIMES, "ended {retried} times only");
    }
    assert_eq!(it.postgres.stats().retries_denied, 0);
}

/// Between two statements of a transaction nobody waits for an answer: what the server says when it
/// ends the session then is heard by the task that moves the bytes.
///
/// Fails when nobody asks that task, so that such an end counts as a try.
#[tokio::test]
async fn who_is_ended_between_two_statements_has_used_up_no_try() {
    const TIMES: u32 = 8;
    let it = Fixture::new(2).await;
    let tries = AtomicU32::new(0);
    let work = |mut tx: PgTx| {
        let (it, number) = (&it, tries.fetch_add(1, Ordering::Relaxed));
        async move {
            tx.query(&PID, &[]).await?;
            if number < TIMES {
                it.terminate_backends().await;
                it.wait_for_backends("%", 0).await;
            }
            tx.query(&PID, &[]).await.map(drop)
        }
    };
    let outcome = it.postgres.tx(TxOptions::default(), work).await;
    let tries = tries.load(Ordering::Relaxed);
    println!("between two statements: {tries} tries, {outcome:?}");
    outcome.expect("what was ended so often is done in the end");
    assert_eq!(tries, TIMES + 1);
}

/// Fails when a commit counts as sent whose session had been ended before: nobody may do such work
/// again.
#[tokio::test]
async fn a_commit_that_was_never_sent_is_no_unknown_outcome() {
    let it = Fixture::new(2).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let tries = AtomicU32::new(0);
    let work = |mut tx: PgTx| {
        let (it, is_first) = (&it, tries.fetch_add(1, Ordering::Relaxed) == 0);
        async move {
            tx.execute(&INSERT, &[&1_i64]).await?;
            if is_first {
                it.terminate_backends().await;
                it.wait_for_backends("%", 0).await;
            }
            Ok::<_, PgError>(())
        }
    };
    let outcome = it.postgres.tx(TxOptions::default(), work).await;
    outcome.expect("it is done again: nothing had happened");
    assert_eq!((tries.load(Ordering::Relaxed), it.count().await), (2, 1));
}

async fn write(postgres: PgPool, writer: u32, stop: Arc<AtomicBool>) -> Written {
    // Long enough for a kill to hit it, at its start, in its middle or at its commit.
    static SLOW: Sql = Sql::new(
        "INSERT things",
        "INSERT INTO things SELECT $1 FROM pg_sleep(0.002) RETURNING pg_sleep(0.001)",
    );
    let mut written = Written::default();
    let mut id = i64::from(writer) << 32;
    while !stop.load(Ordering::Relaxed) {
        id += 1;
        match postgres.execute(&SLOW, &[&id]).await {
            Ok(rows) => {
                assert_eq!(rows, 1);
                written.done.push(id);
            }
            Err(PgError::UnknownOutcome { .. }) => written.unknown.push(id),
            Err(PgError::ConnectionLost { .. }) => written.not_done.push(id),
            Err(error) => panic!("writer {writer}: {error:?}"),
        }
    }
    written
}

/// Ends every backend, asks for as many connections as there may be, and tells how long it took to
/// have them.
async fn refill(it: &Fixture) -> std::time::Duration {
    it.terminate_backends().await;
    let ended = Instant::now();
    // As an operator would: who serves callers leaves one place free for him.
    let all = (0..CONNECTIONS).map(|_| Priority::Admin.scope(it.postgres.begin()));
    for tx in futures_util::future::join_all(all).await {
        let tx = tx.unwrap_or_else(|error| panic!("{error:?} {:?}", it.postgres.stats()));
        tx.rollback().await.expect("a rollback");
    }
    let back = ended.elapsed();
    assert_eq!(it.postgres.stats().connections, CONNECTIONS);
    back
}

async fn rows(postgres: &PgPool) -> HashSet<i64> {
    static IDS: Sql = Sql::new("SELECT things", "SELECT id FROM things");
    let rows = postgres.query(&IDS, &[]).await.expect("rows");
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let distinct: HashSet<i64> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "no row is there twice");
    distinct
}
