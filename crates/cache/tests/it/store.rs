//! The truth: rows with versions, and a loader that can be counted, held up and made to fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{DecodeError, Entity, Loader};
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
    const SCHEMA: u16 = 3;

    fn key_text(key: &u64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u64> {
        text.parse().ok()
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

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
#[error("the store is down")]
pub(crate) struct StoreDown;

/// Clones share the rows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rows: Mutex<HashMap<u64, (i64, String)>>,
    version: AtomicI64,
    loads: AtomicUsize,
    keys_loaded: AtomicUsize,
    under_way: AtomicUsize,
    peak: AtomicUsize,
    fails: AtomicBool,
    panics: AtomicBool,
    holds: AtomicBool,
    held: Notify,
    release: Semaphore,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            rows: Mutex::default(),
            version: AtomicI64::default(),
            loads: AtomicUsize::default(),
            keys_loaded: AtomicUsize::default(),
            under_way: AtomicUsize::default(),
            peak: AtomicUsize::default(),
            fails: AtomicBool::default(),
            panics: AtomicBool::default(),
            holds: AtomicBool::default(),
            held: Notify::new(),
            release: Semaphore::new(0),
        }
    }
}

impl Store {
    /// Commits a row; its new version.
    pub(crate) fn put(&self, key: u64, text: &str) -> i64 {
        let version = self.0.version.fetch_add(1, SeqCst) + 1;
        self.0.rows.lock().insert(key, (version, text.to_owned()));
        version
    }

    /// Commits a deletion; the version of the tombstone.
    pub(crate) fn delete(&self, key: u64) -> i64 {
        self.0.rows.lock().remove(&key);
        self.0.version.fetch_add(1, SeqCst) + 1
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

    /// Lets the next loads read their rows and then wait.
    pub(crate) fn hold(&self) {
        self.0.holds.store(true, SeqCst);
    }

    /// Waits until a load has read its rows and waits.
    pub(crate) async fn held(&self) {
        let held = tokio::time::timeout(Duration::from_secs(10), self.0.held.notified());
        held.await.expect("a load was expected");
    }

    /// Lets one waiting load go on, and later ones pass.
    pub(crate) fn release(&self) {
        self.0.holds.store(false, SeqCst);
        self.0.release.add_permits(1);
    }
}

impl Inner {
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
        let found: Vec<_> = {
            let rows = inner.rows.lock();
            keys.iter()
                .filter_map(|key| {
                    rows.get(key).map(|(version, text)| (*key, *version, text.clone()))
                })
                .map(|(key, version, text)| (key, Row { version, text }))
                .collect()
        };
        if inner.holds.load(SeqCst) {
            inner.held.notify_one();
            inner.release.acquire().await.expect("never closed").forget();
        }
        if inner.fails.load(SeqCst) { Err(StoreDown) } else { Ok(found) }
    }
}
