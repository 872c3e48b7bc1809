//! Order below the gate: a permit is there, a connection is not.

use std::sync::Arc;

use forebay_postgres::PgPool;
use forebay_testkit::postgres_config;
use parking_lot::Mutex;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Fixture, ms};

/// Forwards the first connection; lets every later one wait for ever.
async fn one_connection_only(listener: TcpListener, server: String) {
    let mut kept = Vec::new();
    let mut first = true;
    loop {
        let (mut client, _) = listener.accept().await.expect("a connection");
        if !std::mem::take(&mut first) {
            kept.push(client);
            continue;
        }
        let mut server = TcpStream::connect(&server).await.expect("the server");
        tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
    }
}

/// Fails when a newcomer may take an idle connection past those who wait for one, which is what
/// bb8 does by itself: the newcomer is polled before those whom bb8 has woken.
#[tokio::test]
async fn a_newcomer_does_not_pass_those_who_wait_for_a_connection() {
    let it = Fixture::new(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let (base, database) = it.database.url().rsplit_once('/').expect("a database");
    let (user, server) = base.rsplit_once('@').expect("a user");
    let proxy = tokio::spawn(one_connection_only(listener, server.to_owned()));
    let mut config = postgres_config(&format!("{user}@127.0.0.1:{port}/{database}"));
    config.connections_max = 4;
    let postgres = PgPool::new(&config, "it-line").expect("a connection pool");

    let order: Arc<Mutex<Vec<u32>>> = Arc::default();
    let ask = |number: u32| {
        let (postgres, order) = (postgres.clone(), Arc::clone(&order));
        async move {
            // The order of getting one, not of the answers.
            let tx = postgres.begin().await.expect("its turn");
            order.lock().push(number);
            tx.rollback().await.expect("a rollback");
        }
    };
    for _ in 0..50 {
        order.lock().clear();
        let held = postgres.begin().await.expect("the only connection");
        let mut waiting = Vec::new();
        for number in 0..3 {
            waiting.push(tokio::spawn(ask(number)));
            while postgres.stats().in_use_connections < number + 2 {
                tokio::time::sleep(ms(1)).await;
            }
        }
        held.rollback().await.expect("a rollback");
        // On the thread that gave the connection back, with no chance for anybody in between.
        ask(3).await;
        for task in waiting {
            task.await.expect("its turn");
        }
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
    }
    proxy.abort();
}
