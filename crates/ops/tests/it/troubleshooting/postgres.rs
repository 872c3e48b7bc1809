//! What a `PgPool` says when Postgres, a pooler or the connection pool itself refuses.

use std::sync::Arc;
use std::time::Duration;

use forebay_config::{PostgresConfig, ServiceConnections};
use forebay_pooling::{Deadline, Gate, GateConfig};
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::{PrivatePgBouncer, PrivatePostgres, postgres_config};
use parking_lot::Mutex;

use super::{printed, quotes};

fn pool(url: &str, change: impl FnOnce(&mut PostgresConfig)) -> PgPool {
    let mut config = postgres_config(url);
    change(&mut config);
    PgPool::new(&config, "troubleshooting").expect("settings")
}

/// The same database with another user.
fn as_user(url: &str, user: &str) -> String {
    let (_, host) = url.rsplit_once('@').expect("a user");
    format!("postgres://{user}@{host}")
}

async fn refused(url: &str) -> PgError {
    pool(url, |_| {}).ready().await.expect_err("a refusal")
}

#[tokio::test]
async fn the_server_has_no_slot_left() {
    static ROLES: [Sql; 2] = [
        Sql::new("CREATE ROLE", "CREATE ROLE caller LOGIN"),
        Sql::new("CREATE ROLE", "CREATE ROLE limited LOGIN CONNECTION LIMIT 0"),
    ];
    let settings = [("max_connections", "8"), ("superuser_reserved_connections", "3")];
    let server = PrivatePostgres::start_with(&settings).await;
    let admin = pool(&server.url(), |config| config.connections_max = 1);
    for role in &ROLES {
        admin.execute(role, &[]).await.expect("a role");
    }
    let url = as_user(&server.url(), "caller");
    let heading = "remaining connection slots are reserved";
    // With one of ours, five are open and the last three are for superusers.
    let others = pool(&url, |config| config.connections_max = 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(others.begin().await.expect("one of the four"));
    }
    let error = refused(&url).await;
    assert_eq!(error.sqlstate(), Some("53300"), "{error:?}");
    quotes(heading, &printed(&error));
    let error = refused(&as_user(&server.url(), "limited")).await;
    quotes(heading, &printed(&error));
    for transaction in held {
        transaction.rollback().await.expect("a rollback");
    }
}

#[tokio::test]
async fn the_connection_pool_has_no_connection_left() {
    // Not a sign of life, which goes ahead of everybody.
    static SELECT: Sql = Sql::new("SELECT", "SELECT 1");
    let url = std::env::var("FOREBAY_TEST_POSTGRES_URL").expect("run `cargo xtask test`");
    let heading = "Connection pool exhausted";
    let pool = pool(&url, |config| {
        config.connections_max = 1;
        config.waiting_max = 1;
        config.acquire_timeout = Duration::from_secs(2);
    });
    let held = pool.begin().await.expect("the only connection");
    let timeout = Deadline::after(Duration::from_millis(50)).scope(pool.query(&SELECT, &[])).await;
    let timeout = timeout.expect_err("it is held");
    assert!(matches!(timeout, PgError::Timeout { .. }), "{timeout:?}");
    quotes(heading, &printed(&timeout));
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.query(&SELECT, &[]).await.map(drop) }
    });
    while pool.stats().waiting == 0 {
        tokio::task::yield_now().await;
    }
    let shed = pool.query(&SELECT, &[]).await.expect_err("the queue is full");
    assert!(matches!(shed, PgError::Shed { .. }), "{shed:?}");
    quotes(heading, &printed(&shed));
    held.rollback().await.expect("a rollback");
    waiting.await.expect("the task ends").expect("its turn");
}

#[tokio::test]
async fn the_server_does_not_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let silent = format!("postgres://caller@{}/d", listener.local_addr().expect("an address"));
    let pool = pool(&silent, |config| config.connect_timeout = Duration::from_millis(100));
    let error = pool.ready().await.expect_err("nobody accepts");
    quotes("Connection timeout", &printed(&error));
    drop(listener);
    quotes("Connection timeout", &printed(&refused(&silent).await));
}

#[tokio::test]
async fn the_url_is_not_the_servers() {
    let url = std::env::var("FOREBAY_TEST_POSTGRES_URL").expect("run `cargo xtask test`");
    quotes("Wrong user or password", &printed(&refused(&as_user(&url, "nobody")).await));
    let (server, _) = url.rsplit_once('/').expect("a database");
    let error = refused(&format!("{server}/nowhere")).await;
    quotes("Unknown database", &printed(&error));
    // A server without a certificate cannot be who it must prove to be.
    let error = refused(&format!("{url}?sslmode=verify-full")).await;
    quotes("TLS", &printed(&error));
}

#[tokio::test]
async fn the_pooler_has_no_place_left() {
    let server = PrivatePostgres::start().await;
    let pooler = PrivatePgBouncer::start_with(&server.url(), &[("max_client_conn", "1")]);
    let heading = "A pooler's limits";
    // Called as if it were the server itself.
    quotes(heading, &printed(&refused(&pooler.url()).await));
    let url = format!("{}?pgbouncer=true", pooler.url());
    let first = pool(&url, |config| config.connections_max = 1);
    // The pooler counts the client that it refused until it has seen it go.
    let only = async {
        while first.ready().await.is_err() {
            // A refusal that is known already is told without waiting, and the clock must go on.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), only).await.expect("the only client");
    quotes(heading, &printed(&refused(&url).await));
}

/// Two processes of each of two services, with 20 connections each.
#[tokio::test]
async fn the_budget_is_exceeded() {
    let server = PrivatePostgres::start_with(&[("max_connections", "20")]).await;
    let pool = pool(&server.url(), |config| {
        let service = |name: &'static str| ServiceConnections {
            service: name,
            processes: 2,
            connections_max: 20,
        };
        config.budget.services = vec![service("token-server"), service("pool-server")];
    });
    let refused = pool.check_budget().await.expect_err("it does not fit");
    quotes("The budget does not fit", &printed(&refused));
}

/// The words of the warning; what it names is in fields.
#[tokio::test]
async fn a_connection_is_leaked() {
    let gate = Gate::new(GateConfig {
        leak_after: Duration::from_millis(1),
        ..GateConfig::new(1, 1, Duration::from_secs(1))
    });
    let _held = gate.acquire(std::panic::Location::caller()).await.expect("a free permit");
    let messages = Messages::default();
    let log = tracing::Dispatch::new(messages.clone());
    tracing::dispatcher::with_default(&log, || {
        while gate.report_leaks("postgres") == 0 {
            std::thread::yield_now();
        }
    });
    let messages = messages.0.lock().clone();
    let [message] = messages.as_slice() else { panic!("one, not {messages:?}") };
    quotes("A connection is held for too long", message);
}

/// A log that keeps the messages of events and nothing else.
#[derive(Debug, Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Messages {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "message" {
                self.0.lock().push(format!("{value:?}"));
            }
        });
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}
