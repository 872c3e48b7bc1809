//! Connections that die under their callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::postgres_config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{CREATE_TABLE, Fixture, INSERT, PID, ms};

/// Forwards to a server, and can lose an answer with the connection that it belongs to.
struct Lossy {
    port: u16,
    loses: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Lossy {
    async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let loses: Arc<AtomicBool> = Arc::default();
        let (server, losing) = (server.to_owned(), Arc::clone(&loses));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server");
                tokio::spawn(pass(client, server, Arc::clone(&losing)));
            }
        });
        Self { port, loses, task }
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes on what both say, until one of them ends or an answer is to be lost.
async fn pass(client: TcpStream, server: TcpStream, loses: Arc<AtomicBool>) {
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let questions = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut bytes = vec![0; 65536];
        loop {
            match from_server.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                // The server answers when it has committed.
                Ok(_) if loses.swap(false, Ordering::SeqCst) => return,
                Ok(length) => {
                    if to_client.write_all(&bytes[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    tokio::select! {
        _ = questions => {}
        () = answers => {}
    }
}

/// A write is committed and its answer lost: its caller is told that nobody knows, and the row is
/// there once.
///
/// Fails when the write is repeated, which the unique column refuses.
#[tokio::test]
async fn a_write_is_never_done_twice() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let (base, database) = it.database.url().rsplit_once('/').expect("a database");
    let (user, server) = base.rsplit_once('@').expect("a user");
    let lossy = Lossy::start(server).await;
    let config = postgres_config(&format!("{user}@127.0.0.1:{}/{database}", lossy.port));
    let postgres = PgPool::new(&config, "it-lost").expect("a connection pool");
    for round in 1..=10_i64 {
        // Knows the statement, so that the answer that is lost is the one to the write.
        postgres.execute(&INSERT, &[&-round]).await.expect("a row");
        lossy.loses.store(true, Ordering::SeqCst);
        let outcome = postgres.execute(&INSERT, &[&round]).await;
        assert!(matches!(outcome, Err(PgError::UnknownOutcome { .. })), "{outcome:?}");
        assert_eq!(it.count().await, 2 * round);
    }
    assert_eq!(postgres.stats().unknown_outcomes, 10);
}

/// Fails when the caller of a write that was killed is told something else than what became of it.
#[tokio::test]
async fn writers_beside_kills_know_what_they_have_written() {
    let it = Arc::new(Fixture::new(4).await);
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4_i64)
        .map(|writer| {
            let (postgres, stop) = (it.postgres.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut done, mut unknown) = (0_i64, 0_i64);
                let mut number = writer << 32;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    match postgres.execute(&INSERT, &[&number]).await {
                        Ok(rows) => done += i64::try_from(rows).expect("one row"),
                        Err(PgError::UnknownOutcome { .. }) => unknown += 1,
                        // Not written, and told so.
                        Err(PgError::ConnectionLost { .. }) => {}
                        Err(error) => panic!("writer {writer}: {error:?}"),
                    }
                }
                (done, unknown)
            })
        })
        .collect();
    for _ in 0..20 {
        it.terminate_backends().await;
        tokio::time::sleep(ms(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (mut done, mut unknown) = (0, 0);
    for writer in writers {
        let (its_done, its_unknown) = writer.await.expect("the task ends");
        done += its_done;
        unknown += its_unknown;
    }
    let counted = it.postgres.stats().unknown_outcomes;
    assert_eq!(counted, u64::try_from(unknown).expect("a count"), "in the statistics");
    let rows = it.count().await;
    assert!(done > 0 && rows >= done && rows <= done + unknown, "{rows} rows, {done}, {unknown}");
}

/// Fails when a write is repeated, or when its caller is told that it did not happen.
#[tokio::test]
async fn a_write_without_an_answer_is_of_unknown_outcome() {
    static SLOW: Sql =
        Sql::new("INSERT things", "INSERT INTO things SELECT 1 FROM pg_sleep(2) RETURNING id");
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    for is_query in [false, true] {
        let write = tokio::spawn({
            let postgres = it.postgres.clone();
            async move {
                if is_query {
                    postgres.query(&SLOW, &[]).await.map(drop)
                } else {
                    postgres.execute(&SLOW, &[]).await.map(drop)
                }
            }
        });
        it.wait_for_backends("active", 1).await;
        it.terminate_backends().await;
        let outcome = write.await.expect("the task ends");
        assert!(matches!(outcome, Err(PgError::UnknownOutcome { .. })), "{outcome:?}");
        assert_eq!(it.count().await, 0);
    }
}

/// Fails without the check before `BEGIN` and its repetition.
#[tokio::test]
async fn a_transaction_starts_on_a_living_connection() {
    let it = Fixture::new(2).await;
    for round in 0..20 {
        it.pid().await;
        it.terminate_backends().await;
        if round % 2 == 0 {
            it.wait_for_backends("%", 0).await;
        }
        let mut tx = it.postgres.begin().await.expect("a transaction");
        tx.query(&PID, &[]).await.expect("an answer");
        tx.commit().await.expect("a commit");
    }
}

/// Fails when a transaction that lost its connection is reported as anything but undone.
#[tokio::test]
async fn a_transaction_that_loses_its_connection_is_undone() {
    let it = Fixture::new(1).await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let mut tx = it.postgres.begin().await.expect("a transaction");
    tx.execute(&INSERT, &[&1_i64]).await.expect("a row");
    it.terminate_backends().await;
    let lost = tx.execute(&INSERT, &[&2_i64]).await;
    assert!(matches!(lost, Err(PgError::ConnectionLost { .. })), "{lost:?}");
    drop(tx);
    assert_eq!(it.count().await, 0);
}

/// A connection that reached its lifetime is replaced when it comes back.
#[tokio::test]
async fn an_old_connection_is_replaced() {
    static NOTHING: Sql = Sql::new("SELECT 1", "SELECT 1");
    let it = Fixture::with(|config| {
        config.connections_max = 1;
        config.lifetime_max = ms(50);
    })
    .await;
    let first = it.pid().await;
    tokio::time::sleep(ms(60)).await;
    // The lifetime is looked at on return: this one may still use it, the next may not.
    it.postgres.query(&NOTHING, &[]).await.expect("an answer");
    assert_ne!(it.pid().await, first);
}
