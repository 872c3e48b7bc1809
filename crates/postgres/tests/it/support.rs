//! Connection pools for tests, and a look at the server from outside.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_postgres::{PgPool, PgPoolStats, Sql};
use forebay_testkit::{TestDatabase, postgres_config};
use tokio::time::Instant;

/// Sleeps on the server for `$1` seconds.
pub(crate) static SLEEP: Sql = Sql::new("SELECT pg_sleep", "SELECT pg_sleep($1)");
/// Names the backend.
pub(crate) static PID: Sql = Sql::new("SELECT pg_backend_pid", "SELECT pg_backend_pid()");
/// A table with one unique column.
pub(crate) static CREATE_TABLE: Sql =
    Sql::new("CREATE TABLE things", "CREATE TABLE things (id bigint CONSTRAINT things_key UNIQUE)");
/// One row more.
pub(crate) static INSERT: Sql = Sql::new("INSERT things", "INSERT INTO things VALUES ($1)");
/// Rows there are.
pub(crate) static COUNT: Sql = Sql::new("SELECT things", "SELECT count(*) FROM things");
/// Refused (SQLSTATE 25P01) by a session that is in no transaction.
pub(crate) static LOCK: Sql =
    Sql::new("LOCK TABLE things", "LOCK TABLE things IN ACCESS SHARE MODE");

/// A connection pool under test, on a database of its own, and a second one that watches it.
pub(crate) struct Fixture {
    pub(crate) database: TestDatabase,
    pub(crate) postgres: PgPool,
    watcher: PgPool,
    application: String,
}

impl Fixture {
    /// A connection pool of `connections` connections.
    pub(crate) async fn new(connections: u32) -> Self {
        Self::with(|config| config.connections_max = connections).await
    }

    /// A connection pool with settings of the test's own.
    pub(crate) async fn with(change: impl FnOnce(&mut forebay_config::PostgresConfig)) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = forebay_testkit::empty_database().await;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let application = format!("it-{}-{number}", std::process::id());
        let mut config = postgres_config(database.url());
        config.instance = "it".to_owned();
        change(&mut config);
        let postgres = PgPool::new(&config, &application).expect("a connection pool");
        let watcher = database.pool();
        // As the server sees it: service/instance/connection pool.
        let application = format!("{application}/it/primary");
        Self { database, postgres, watcher, application }
    }

    /// Backends of the connection pool under test in `state`, as the server sees them.
    pub(crate) async fn backends(&self, state: &str) -> i64 {
        static BACKENDS: Sql = Sql::new(
            "SELECT pg_stat_activity",
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = $1 AND state LIKE $2",
        );
        let row = self.watcher.query_one(&BACKENDS, &[&self.application, &state]).await;
        row.expect("a count").get(0)
    }

    /// Waits until one of them is asleep in the middle of a statement.
    pub(crate) async fn wait_for_sleep(&self) {
        static ASLEEP: Sql = Sql::new(
            "SELECT pg_stat_activity",
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = $1 AND state = 'active' AND wait_event = 'PgSleep'",
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let row = self.watcher.query_one(&ASLEEP, &[&self.application]).await;
            if row.expect("a count").get::<_, i64>(0) > 0 {
                return;
            }
            assert!(Instant::now() < deadline, "nobody sleeps");
            tokio::task::yield_now().await;
        }
    }

    /// Ends every backend of the connection pool under test.
    pub(crate) async fn terminate_backends(&self) -> i64 {
        static TERMINATE: Sql = Sql::new(
            "SELECT pg_terminate_backend",
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name = $1",
        );
        let row = self.watcher.query_one(&TERMINATE, &[&self.application]).await;
        row.expect("a count").get(0)
    }

    /// Ends one backend of the connection pool under test while it runs a statement; which one is
    /// left to chance. `None` if all of them rest.
    pub(crate) async fn terminate_one(&self) -> Option<String> {
        static TERMINATE: Sql = Sql::new(
            "SELECT pg_terminate_backend",
            "SELECT query, pg_terminate_backend(pid) FROM (SELECT pid, query FROM pg_stat_activity \
             WHERE application_name = $1 AND state = 'active' ORDER BY random() LIMIT 1) AS one",
        );
        let row = self.watcher.query_opt(&TERMINATE, &[&self.application]).await;
        row.expect("an answer").map(|row| row.get(0))
    }

    /// Waits until `backends(state)` is `expected`.
    pub(crate) async fn wait_for_backends(&self, state: &str, expected: i64) {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let found = self.backends(state).await;
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{found} backends {state}, expected {expected}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until a backend of the connection pool under test runs a statement that begins so.
    pub(crate) async fn wait_for_statement(&self, start: &str) {
        static RUNNING: Sql = Sql::new(
            "SELECT pg_stat_activity",
            "SELECT count(*) FROM pg_stat_activity \
             WHERE application_name = $1 AND state = 'active' AND starts_with(query, $2)",
        );
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let row = self.watcher.query_one(&RUNNING, &[&self.application, &start]).await;
            if row.expect("a count").get::<_, i64>(0) > 0 {
                return;
            }
            assert!(Instant::now() < deadline, "nobody runs {start}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the statistics are as `expected` says.
    pub(crate) async fn wait_for_stats(&self, expected: impl Fn(&PgPoolStats) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !expected(&self.postgres.stats()) {
            assert!(Instant::now() < deadline, "{:?}", self.postgres.stats());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// The backend that answers now.
    pub(crate) async fn pid(&self) -> i32 {
        self.postgres.query_one(&PID, &[]).await.expect("a backend").get(0)
    }

    /// Rows in the table of [`CREATE_TABLE`].
    pub(crate) async fn count(&self) -> i64 {
        self.postgres.query_one(&COUNT, &[]).await.expect("a count").get(0)
    }
}

/// Held by a test that puts the machine under load, so that no other one of its kind runs beside it.
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Milliseconds, to keep tests readable.
pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
