//! The truth: rows with versions, and a loader that can be counted, held up and made to fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{ChangedRow, DecodeError, Entity, List, Loader, Page, PageLoader};
use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_testkit::{self as testkit, TestDatabase};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

/// A row of the tests. It is stored as `version text`.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) text: String,
}

impl Entity for Row {
    type Key = u64;
    type Value = Self;
    const NAME: &'static str = "row";
    const SOURCE: &'static str = "row";
    const SCHEMA: u16 = 3;

    fn key_text(key: &u64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        row.key.parse().ok()
    }

    fn version(row: &Self) -> i64 {
        row.version
    }

    fn encode(row: &Self) -> Bytes {
        Bytes::from(format!("{} {}", row.version, row.text))
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let text = str::from_utf8(&bytes).map_err(DecodeError::because)?;
        let (version, text) = text.split_once(' ').ok_or_else(DecodeError::new)?;
        let version = version.parse().map_err(DecodeError::because)?;
        Ok(Self { version, text: text.to_owned() })
    }
}

/// The rows whose text begins with a prefix, as `text text ..` in the order of their names.
#[derive(Debug)]
pub(crate) struct RowList;

impl List for RowList {
    type Query = String;
    type Page = Texts;
    const NAME: &'static str = "row_list";
    const SOURCE: &'static str = Row::SOURCE;
    const SCHEMA: u16 = 1;

    fn query_text(query: &String) -> String {
        query.clone()
    }

    fn parse_query(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

/// A page of [`RowList`].
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) text: String,
    encoded: Bytes,
}

impl From<String> for Texts {
    fn from(text: String) -> Self {
        Self { encoded: Bytes::from(text.clone()), text }
    }
}

impl Page for Texts {
    fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        let text = str::from_utf8(&encoded).map_err(DecodeError::because)?.to_owned();
        Ok(Self { text, encoded })
    }

    fn decoded_bytes(&self) -> usize {
        self.text.len()
    }
}

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
#[error("the store is down")]
pub(crate) struct StoreDown(#[source] PgError);

/// A table of rows with triggers as the tables of the product have them.
const TABLE: &str = r#"
CREATE TABLE rows (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text COLLATE "C" NOT NULL UNIQUE,
    text text NOT NULL,
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TRIGGER rows_version BEFORE INSERT OR UPDATE ON rows
    FOR EACH ROW EXECUTE FUNCTION assign_row_version();
CREATE TRIGGER rows_outbox_insert AFTER INSERT ON rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_insert('row', 'name');
CREATE TRIGGER rows_outbox_update AFTER UPDATE ON rows REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_update('row', 'name');
CREATE TRIGGER rows_outbox_delete AFTER DELETE ON rows REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_delete('row', 'name');
CREATE TRIGGER rows_outbox_truncate AFTER TRUNCATE ON rows
    FOR EACH STATEMENT EXECUTE FUNCTION outbox_after_truncate('row');
"#;
const PUT: Sql = Sql::new(
    "INSERT rows",
    "INSERT INTO rows (name, text) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET text = EXCLUDED.text RETURNING version",
);
const DELETE: Sql = Sql::new("DELETE rows", "DELETE FROM rows WHERE name = $1");
const VERSION: Sql = Sql::new("SELECT row_version", "SELECT currval('row_version')");
const LIST: Sql = Sql::new(
    "SELECT rows",
    "SELECT coalesce(string_agg(text, ' ' ORDER BY name), '') FROM rows \
     WHERE starts_with(text, $1)",
);
const LOAD: Sql =
    Sql::new("SELECT rows", "SELECT name, version, text FROM rows WHERE name = ANY($1)");

/// Rows in a database of the test's own. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    postgres: PgPool,
    loads: AtomicUsize,
    keys_loaded: AtomicUsize,
    under_way: AtomicUsize,
    peak: AtomicUsize,
    fails: AtomicBool,
    panics: AtomicBool,
    panics_when_released: AtomicBool,
    holds: AtomicBool,
    /// What a server that lags answers, if loads are to come from one.
    lagging: Mutex<Option<HashMap<u64, (i64, String)>>>,
    /// The server that takes writes lags too.
    lags_wholly: AtomicBool,
    held: Notify,
    release: Semaphore,
    /// Dropped with the last clone; a server of the test's own has none.
    database: Option<TestDatabase>,
}

impl Store {
    /// A table in a new database.
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let url = database.url().to_owned();
        Self::at(&url, Some(database)).await
    }

    /// A table in the migrated database at `url`.
    pub(crate) async fn at(url: &str, database: Option<TestDatabase>) -> Self {
        let admin = Maintenance::connect(url).await.expect("a connection");
        admin.client().batch_execute(TABLE).await.expect("a table");
        admin.close().await;
        Self::on(
            PgPool::new(&testkit::postgres_config(url), "cache-test").expect("a url"),
            database,
        )
    }

    /// The rows that `postgres` finds.
    pub(crate) fn on(postgres: PgPool, database: Option<TestDatabase>) -> Self {
        Self(Arc::new(Inner {
            postgres,
            loads: AtomicUsize::default(),
            keys_loaded: AtomicUsize::default(),
            under_way: AtomicUsize::default(),
            peak: AtomicUsize::default(),
            fails: AtomicBool::default(),
            panics: AtomicBool::default(),
            panics_when_released: AtomicBool::default(),
            holds: AtomicBool::default(),
            lagging: Mutex::default(),
            lags_wholly: AtomicBool::default(),
            held: Notify::new(),
            release: Semaphore::new(0),
            database,
        }))
    }

    /// The same rows, with a loader of its own: another process.
    pub(crate) fn another(&self) -> Self {
        Self::on(self.postgres(), None)
    }

    /// Where the rows are, and the outbox of their changes.
    pub(crate) fn postgres(&self) -> PgPool {
        self.0.postgres.clone()
    }

    /// URL of the database.
    pub(crate) fn url(&self) -> &str {
        let database = self.0.database.as_ref();
        database.expect("a database of the test's own").url()
    }

    /// Commits a row; its new version.
    pub(crate) async fn put(&self, key: u64, text: &str) -> i64 {
        let row = self.0.postgres.query_one(&PUT, &[&key.to_string(), &text]).await;
        row.expect("stored").try_get(0).expect("a version")
    }

    /// Commits a deletion; the version of the tombstone, 0 if there was no row and so none was made.
    pub(crate) async fn delete(&self, key: u64) -> i64 {
        let mut tx = self.0.postgres.begin().await.expect("a transaction");
        let deleted = tx.execute(&DELETE, &[&key.to_string()]).await.expect("deleted");
        if deleted == 0 {
            return 0;
        }
        let version = tx.query_one(&VERSION, &[]).await.expect("a version");
        tx.commit().await.expect("committed");
        version.try_get(0).expect("a version")
    }

    /// Calls of the loader so far.
    pub(crate) fn loads(&self) -> usize {
        self.0.loads.load(SeqCst)
    }

    pub(crate) fn keys_loaded(&self) -> usize {
        self.0.keys_loaded.load(SeqCst)
    }

    /// Most loads that were under way at once.
    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, SeqCst);
    }

    pub(crate) fn panic(&self, panics: bool) {
        self.0.panics.store(panics, SeqCst);
    }

    /// Lets the load that waits panic when it is released, once.
    pub(crate) fn panic_when_released(&self) {
        self.0.panics_when_released.store(true, SeqCst);
    }

    /// Lets the next loads read their rows and then wait.
    pub(crate) fn hold(&self) {
        self.0.holds.store(true, SeqCst);
    }

    /// Waits until a load has read its rows and waits.
    pub(crate) async fn held(&self) {
        let held = tokio::time::timeout(Duration::from_secs(10), self.0.held.notified());
        held.await.expect("a load was expected");
    }

    /// From now on loads see the rows of these keys as they are now, as on a server that has stopped
    /// to follow; `wholly` also those from the server that takes writes.
    pub(crate) async fn lag(&self, keys: &[u64], wholly: bool) {
        let now = self.read(keys).await.expect("the rows");
        let now = now.into_iter().map(|(key, row)| (key, (row.version, row.text))).collect();
        *self.0.lagging.lock() = Some(now);
        self.0.lags_wholly.store(wholly, SeqCst);
    }

    /// Loads see what there is.
    pub(crate) fn catch_up(&self) {
        *self.0.lagging.lock() = None;
    }

    async fn read(&self, keys: &[u64]) -> Result<Vec<(u64, Row)>, StoreDown> {
        let names: Vec<_> = keys.iter().map(u64::to_string).collect();
        let rows = self.0.postgres.query(&LOAD, &[&names]).await.map_err(StoreDown)?;
        let row = |row: &forebay_postgres::Row| {
            let name: &str = row.try_get(0).expect("a name");
            let version = row.try_get(1).expect("a version");
            let text = row.try_get(2).expect("a text");
            (name.parse().expect("a number"), Row { version, text })
        };
        Ok(rows.iter().map(row).collect())
    }

    /// What a server that lags holds of some keys, if loads come from one.
    fn lagging(&self, keys: &[u64]) -> Option<Vec<(u64, Row)>> {
        let lagging = self.0.lagging.lock();
        let held = lagging.as_ref()?;
        let row = |key: &u64| {
            let (version, text) = held.get(key)?.clone();
            Some((*key, Row { version, text }))
        };
        Some(keys.iter().filter_map(row).collect())
    }

    /// Lets one waiting load go on, and later ones pass.
    pub(crate) fn release(&self) {
        self.0.holds.store(false, SeqCst);
        self.0.release.add_permits(1);
    }
}

impl Inner {
    /// What was read, once it may go on.
    async fn pass<T>(&self, found: T) -> Result<T, StoreDown> {
        if self.holds.load(SeqCst) {
            self.held.notify_one();
            self.release.acquire().await.expect("never closed").forget();
            assert!(!self.panics_when_released.swap(false, SeqCst), "the loader was told to panic");
        }
        if self.fails.load(SeqCst) { Err(StoreDown(PgError::Draining)) } else { Ok(found) }
    }

    fn enter(&self) -> Counted<'_> {
        let under_way = self.under_way.fetch_add(1, SeqCst) + 1;
        self.peak.fetch_max(under_way, SeqCst);
        Counted(self)
    }
}

/// A load under way, until it ends in whatever way.
struct Counted<'a>(&'a Inner);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, SeqCst);
    }
}

impl Loader<Row> for Store {
    type Error = StoreDown;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Vec<(u64, Row)>, StoreDown> {
        let inner = &self.0;
        inner.loads.fetch_add(1, SeqCst);
        inner.keys_loaded.fetch_add(keys.len(), SeqCst);
        let _counted = inner.enter();
        assert!(!inner.panics.load(SeqCst), "the loader was told to panic");
        let found = match self.lagging(&keys) {
            Some(old) => old,
            None => self.read(&keys).await?,
        };
        inner.pass(found).await
    }

    async fn load_newest(&self, keys: Vec<u64>) -> Result<Vec<(u64, Row)>, StoreDown> {
        let lags = self.0.lagging.lock().is_some();
        if !lags || self.0.lags_wholly.load(SeqCst) {
            return Loader::<Row>::load_many(self, keys).await;
        }
        self.0.loads.fetch_add(1, SeqCst);
        self.read(&keys).await
    }
}

impl PageLoader<RowList> for Store {
    type Error = StoreDown;

    async fn load(&self, prefix: String) -> Result<Texts, StoreDown> {
        let inner = &self.0;
        inner.loads.fetch_add(1, SeqCst);
        let row = inner.postgres.query_one(&LIST, &[&prefix]).await.map_err(StoreDown)?;
        let text: String = row.try_get(0).expect("a page");
        inner.pass(Texts::from(text)).await
    }
}
