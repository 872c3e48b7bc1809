//! Servers that cannot be reached or refuse: the caller learns why, at once.

use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::postgres_config;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::fake_server::{FakeServer, Manners};
use crate::support::{Fixture, PID, ms};

fn pool(url: &str) -> PgPool {
    PgPool::new(&postgres_config(url), "it-connect").expect("a connection pool")
}

/// Asks once, expects `kind`, and that it took no longer than it has to.
async fn check(url: &str, kind: &str, sqlstate: Option<&str>) {
    let pool = pool(url);
    let started = Instant::now();
    let error = pool.ready().await.expect_err(kind);
    let took = started.elapsed();
    assert_eq!((error.kind(), error.sqlstate()), (kind, sqlstate), "{error:?}");
    assert!(took < ms(100), "{kind} took {took:?}");
    assert!(error.is_unavailable() && error.retry_after().is_some(), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("secret"), "{error:?}");
}

/// Fails without the news of failures: the caller would wait until its acquire timeout, 5 s.
#[tokio::test]
async fn a_refusal_is_typed_and_fast() {
    let cases = [
        ("28P01", "auth"),
        ("28000", "auth"),
        ("3D000", "unknown_database"),
        ("53300", "server_slots"),
        ("57P03", "unreachable"),
        ("XX000", "unreachable"),
    ];
    for (sqlstate, kind) in cases {
        let server = FakeServer::start(Manners::Refuses(sqlstate)).await;
        check(&server.url(), kind, Some(sqlstate)).await;
    }
    let server = FakeServer::start(Manners::HangsUp).await;
    check(&server.url(), "unreachable", None).await;
}

#[tokio::test]
async fn a_real_server_refuses_in_its_own_words() {
    let it = Fixture::new(1).await;
    let url = it.database.url();
    let (base, _) = url.rsplit_once('/').expect("a database name");
    check(&format!("{base}/no-such-database"), "unknown_database", Some("3D000")).await;
    let (_, host) = base.rsplit_once('@').expect("a user");
    let nobody = format!("postgres://nobody@{host}/postgres");
    check(&nobody, "auth", Some("28000")).await;
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    check(&format!("postgres://user:secret@{address}/database"), "unreachable", None).await;
    check("postgres://user:secret@%2Fnowhere/database", "unreachable", None).await;
}

/// Fails when a certificate is not checked: then every case reaches the refusal of the password.
#[tokio::test]
async fn an_encrypted_server_must_prove_its_name() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tls/root.pem");
    let server = FakeServer::start(Manners::Encrypts).await;
    let port = server.address.port();
    let url =
        |host: &str, parameters: &str| format!("postgres://user@{host}:{port}/d?{parameters}");
    let trusted = format!("sslmode=verify-full&sslrootcert={root}");
    check(&url("localhost", &trusted), "auth", Some("28P01")).await;
    // The certificate is for another name.
    check(&url("127.0.0.1", &trusted), "tls", None).await;
    // It is signed by nobody whom the system trusts.
    check(&url("localhost", "sslmode=verify-full"), "tls", None).await;

    // A server that cannot encrypt gets no password in the clear.
    let plain = FakeServer::start(Manners::HangsUp).await;
    let parameters = format!("{}?sslmode=require&sslrootcert={root}", plain.url());
    check(&parameters, "unreachable", None).await;
}

/// Fails without the connect timeout: a silent server would hold the attempt for ever.
#[tokio::test]
async fn a_silent_server_is_given_up() {
    let server = FakeServer::start(Manners::Silent).await;
    let mut config = postgres_config(&server.url());
    config.connect_timeout = ms(200);
    let pool = PgPool::new(&config, "it-connect").expect("a connection pool");
    let started = Instant::now();
    let error = pool.ready().await.expect_err("silence");
    assert!(matches!(error, PgError::Unreachable { .. }), "{error:?}");
    assert!(started.elapsed() >= ms(200) && started.elapsed() < ms(350), "{:?}", started.elapsed());

    // Who waits less than an attempt takes is told the same, not that the connections are in use.
    config.acquire_timeout = ms(100);
    config.connect_timeout = ms(5000);
    let pool = PgPool::new(&config, "it-connect").expect("a connection pool");
    let error = pool.ready().await.expect_err("silence");
    assert!(matches!(error, PgError::Unreachable { .. }), "{error:?}");
}

/// Fails without the cause that all waiters share: only one would be told.
#[tokio::test]
async fn everyone_who_waits_is_told() {
    let server = FakeServer::start(Manners::Refuses("28P01")).await;
    let pool = pool(&server.url());
    let started = Instant::now();
    let callers: Vec<_> = (0..60)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.query(&PID, &[]).await.expect_err("a refusal") })
        })
        .collect();
    for caller in callers {
        let error = caller.await.expect("the task ends");
        assert!(matches!(error, PgError::Auth { .. }), "{error:?}");
    }
    assert!(started.elapsed() < ms(500), "{:?}", started.elapsed());
}

/// A server that is full still serves the connections that we have. Fails when every caller that
/// would like one more connection is turned away.
#[tokio::test]
async fn a_full_server_serves_on_with_the_connections_there_are() {
    static ROLE: Sql = Sql::new("CREATE ROLE", "CREATE ROLE it_two_slots LOGIN CONNECTION LIMIT 2");
    let it = Fixture::new(1).await;
    // Roles are shared by all databases of the server and may be there from an earlier run.
    if let Err(error) = it.postgres.execute(&ROLE, &[]).await {
        assert_eq!(error.sqlstate(), Some("42710"), "{error:?}");
    }
    let (_, host) = it.database.url().rsplit_once('@').expect("a user");
    let pool = pool(&format!("postgres://it_two_slots@{host}"));
    // Before the first connection is open there is nothing to wait for, and all would be told so.
    pool.query(&PID, &[]).await.expect("the first of two connections");
    let callers: Vec<_> = (0..200)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.query(&PID, &[]).await.map(drop) })
        })
        .collect();
    let mut served = 0;
    for caller in callers {
        match caller.await.expect("the task ends") {
            Ok(()) => served += 1,
            // More came than may wait.
            Err(PgError::Shed { .. }) => {}
            Err(error) => panic!("a connection was there to wait for: {error:?}"),
        }
    }
    assert!(served > 0, "nobody was served");
    assert!(pool.stats().connections <= 2);
    for _ in 0..50 {
        let (one, two, three) =
            tokio::join!(pool.query(&PID, &[]), pool.query(&PID, &[]), pool.query(&PID, &[]));
        one.and(two).and(three).expect("two connections are enough for three callers");
    }
}
