//! The store behind the caches: one table in Postgres, read by one loader that all sides use.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use forebay_postgres::{PgPool, Sql};
use tokio::sync::{Notify, Semaphore};
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::cache::record::{Range, Record};
use crate::pools::settings;

/// Connections of the loader: more than one side has loads at once, and the same for all.
const CONNECTIONS: u32 = 20;
/// What the triggers name the table in the outbox.
pub const SOURCE: &str = "cache_bench";
/// A table as those of the product are, with their triggers.
const TABLE: &str = r"
DROP TABLE IF EXISTS cache_bench;
CREATE TABLE cache_bench (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    text text NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER cache_bench_version BEFORE INSERT OR UPDATE ON cache_bench
    FOR EACH ROW EXECUTE FUNCTION assign_row_version();
CREATE TRIGGER cache_bench_outbox_update AFTER UPDATE ON cache_bench REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_update('cache_bench', 'name');
";
const ADD: Sql = Sql::new(
    "INSERT cache_bench",
    "INSERT INTO cache_bench (id, name, text) SELECT id, id::text, $2 FROM unnest($1::uuid[]) id",
);
const WRITE: Sql = Sql::new(
    "UPDATE cache_bench",
    "UPDATE cache_bench SET text = text WHERE id = $1 RETURNING version",
);
const LOAD: Sql =
    Sql::new("SELECT cache_bench", "SELECT id, version, text FROM cache_bench WHERE id = ANY($1)");

/// Why a load failed.
#[derive(Debug, Clone)]
pub struct LoadError(String);

impl LoadError {
    /// With this text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for LoadError {}

/// The table, with counters and a gate. Clones share them.
#[derive(Clone)]
pub struct Truth(Arc<Inner>);

struct Inner {
    postgres: PgPool,
    url: String,
    statements: AtomicU64,
    loaded: AtomicU64,
    running: AtomicU64,
    peak: AtomicU64,
    holds: AtomicBool,
    held: Notify,
    release: Semaphore,
}

impl Truth {
    /// An empty table.
    ///
    /// # Errors
    /// When Postgres cannot be reached.
    pub async fn create(url: &str) -> anyhow::Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        let driver = tokio::spawn(connection);
        client.batch_execute(TABLE).await.context("create the table")?;
        drop(client);
        driver.await??;
        let config = settings(&[
            format!("--postgres.url={url}"),
            format!("--postgres.connections_max={CONNECTIONS}"),
            // A peer loads a thousand keys one by one, at once.
            "--postgres.waiting_max=10000".to_owned(),
            "--postgres.acquire_timeout=30s".to_owned(),
        ])?;
        Ok(Self::on(PgPool::new(&config.postgres, "bench")?, url))
    }

    fn on(postgres: PgPool, url: &str) -> Self {
        Self(Arc::new(Inner {
            postgres,
            url: url.to_owned(),
            statements: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            running: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            holds: AtomicBool::new(false),
            held: Notify::new(),
            release: Semaphore::new(0),
        }))
    }

    /// The same table with counters and a gate of its own.
    #[must_use]
    pub fn separate(&self) -> Self {
        Self::on(self.0.postgres.clone(), &self.0.url)
    }

    /// The connection pool of the loader.
    pub fn postgres(&self) -> PgPool {
        self.0.postgres.clone()
    }

    /// Where Postgres is.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When Postgres does not take them.
    pub async fn add(&self, ids: &[Uuid], text_bytes: usize) -> anyhow::Result<()> {
        let text = "x".repeat(text_bytes);
        // So few that a statement takes milliseconds: one that takes longer counts as a stall.
        for some in ids.chunks(1_000) {
            self.0.postgres.execute(&ADD, &[&some, &text]).await?;
        }
        Ok(())
    }

    /// Adds the rows of a range, which takes seconds for a million, and lets Postgres tidy up at
    /// once what it would tidy up while something is measured.
    ///
    /// # Errors
    /// When Postgres does not take them.
    pub async fn add_range(&self, range: Range, text_bytes: usize) -> anyhow::Result<()> {
        // Beside the connection pool: it takes longer than a statement of a service may.
        let (client, connection) = tokio_postgres::connect(&self.0.url, NoTls).await?;
        let driver = tokio::spawn(connection);
        let (id, count) = (range.sql("i"), range.count());
        let add = format!(
            "INSERT INTO cache_bench (id, name, text) SELECT {id}, i::text, repeat('x', {text_bytes})
             FROM generate_series(0, {count} - 1) i"
        );
        client.batch_execute(&add).await.context("add the rows of a range")?;
        client.batch_execute("VACUUM ANALYZE cache_bench").await?;
        drop(client);
        Ok(driver.await??)
    }

    /// Commits a change of a row; its new version.
    ///
    /// # Errors
    /// When Postgres does not take it.
    pub async fn write(&self, id: Uuid) -> anyhow::Result<i64> {
        Ok(self.0.postgres.query_one(&WRITE, &[&id]).await?.try_get(0)?)
    }

    /// Reads rows with one statement, then waits at the gate if it is closed.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub async fn load(&self, ids: &[Uuid]) -> Result<Vec<Record>, LoadError> {
        let inner = &*self.0;
        inner.statements.fetch_add(1, Ordering::Relaxed);
        inner.loaded.fetch_add(ids.len() as u64, Ordering::Relaxed);
        let _running = Running::enter(inner);
        let rows = inner.postgres.query(&LOAD, &[&ids]).await;
        let rows = rows.map_err(|error| LoadError(error.to_string()))?;
        let records = rows
            .iter()
            .map(|row| {
                let id: Uuid = row.try_get(0)?;
                Ok(Record { id: id.to_string(), version: row.try_get(1)?, text: row.try_get(2)? })
            })
            .collect::<anyhow::Result<Vec<_>>>()
            .map_err(|error| LoadError(error.to_string()))?;
        if inner.holds.load(Ordering::SeqCst) {
            inner.held.notify_one();
            let passed = inner.release.acquire().await;
            passed.map_err(|_| LoadError("the gate is gone".to_owned()))?.forget();
        }
        Ok(records)
    }

    /// Reads one row, as a cache without batches does.
    ///
    /// # Errors
    /// When Postgres does not answer, or has no such row.
    pub async fn load_one(&self, id: Uuid) -> Result<Record, LoadError> {
        let found = self.load(&[id]).await?.pop();
        found.ok_or_else(|| LoadError(format!("no row {id}")))
    }

    /// Lets loads read their rows and then wait.
    pub fn hold(&self) {
        self.0.holds.store(true, Ordering::SeqCst);
    }

    /// Waits until a load waits at the gate; whether one came within `patience`.
    pub async fn held(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.0.held.notified()).await.is_ok()
    }

    /// Opens the gate for everybody.
    pub fn release(&self) {
        self.0.holds.store(false, Ordering::SeqCst);
        // More than ever wait; what is left over is taken back when the gate closes again.
        self.0.release.add_permits(100_000);
    }

    /// Takes back what `release` left over.
    pub fn close_again(&self) {
        self.0.release.forget_permits(usize::MAX);
    }

    /// Statements of the loader since the last call, and the most that ran at once.
    pub fn take_counts(&self) -> (u64, u64) {
        let statements = self.0.statements.swap(0, Ordering::SeqCst);
        (statements, self.0.peak.swap(0, Ordering::SeqCst))
    }

    /// Keys that the loader was asked for since the last call.
    pub fn take_loaded(&self) -> u64 {
        self.0.loaded.swap(0, Ordering::SeqCst)
    }
}

/// A load under way.
struct Running<'a>(&'a Inner);

impl<'a> Running<'a> {
    fn enter(inner: &'a Inner) -> Self {
        let running = inner.running.fetch_add(1, Ordering::SeqCst) + 1;
        inner.peak.fetch_max(running, Ordering::SeqCst);
        Self(inner)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}
