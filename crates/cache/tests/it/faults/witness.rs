//! Who judges each answer: it contains what was committed longer ago than the bound.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use forebay_cache::{Consistency, EntityCache};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::BOUND;
use crate::store::{Row, Store};

/// What was committed, and what reads were answered. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Witness(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Of each key the commits in their order: when it was certain, and the version.
    committed: Mutex<BTreeMap<u64, Vec<(Instant, i64)>>>,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
    oldest_nanos: AtomicU64,
    is_over: AtomicBool,
}

impl Witness {
    /// Commits a row and notes when that was certain.
    pub(super) async fn put(&self, store: &Store, key: u64, text: &str) -> i64 {
        let version = store.put(key, text).await;
        let commit = (Instant::now(), version);
        self.0.committed.lock().entry(key).or_default().push(commit);
        version
    }

    /// Reads a key and asserts that the answer is not too old.
    pub(super) async fn read(&self, rows: &EntityCache<Row, Store>, key: u64) -> &'static str {
        let began = Instant::now();
        let found = rows.get(&key, Consistency::Bounded(BOUND)).await.expect("no read fails");
        let version = found.value.map_or(0, |row| row.value.version);
        // The first commit that the answer does not contain.
        let missed = {
            let committed = self.0.committed.lock();
            let commits = committed.get(&key).into_iter().flatten();
            commits.copied().find(|(_, newer)| *newer > version)
        };
        if let Some((at, newer)) = missed {
            let age = began.saturating_duration_since(at);
            let outcome = found.outcome;
            assert!(
                age <= BOUND,
                "stale: {outcome} of key {key} was {version}, and {newer} {age:?} old"
            );
            let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            self.0.oldest_nanos.fetch_max(nanos, SeqCst);
        }
        let outcome = found.outcome.as_str();
        *self.0.outcomes.lock().entry(outcome).or_default() += 1;
        outcome
    }

    /// Reads keys of a replica, one after the other, until [`Witness::end`].
    pub(super) fn watch(&self, rows: &EntityCache<Row, Store>, keys: Range<u64>) -> JoinHandle<()> {
        let (witness, rows) = (self.clone(), rows.clone());
        tokio::spawn(async move {
            for key in keys.cycle() {
                if witness.0.is_over.load(SeqCst) {
                    return;
                }
                witness.read(&rows, key).await;
                // So that a machine with few cores has time for everybody else.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    /// Whether those who watch are to stop; for other tasks that go on as long.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_over.load(SeqCst)
    }

    /// Ends the reads, and fails if one of them did.
    pub(super) async fn end(&self, watching: Vec<JoinHandle<()>>) {
        self.0.is_over.store(true, SeqCst);
        for task in watching {
            task.await.expect("every answer is as fresh as was promised");
        }
    }

    /// Answers of a kind so far.
    pub(super) fn count(&self, outcome: &str) -> u64 {
        self.0.outcomes.lock().get(outcome).copied().unwrap_or_default()
    }

    /// What was answered, for whoever reads the log of the test.
    pub(super) fn summary(&self) -> String {
        let commits: usize = self.0.committed.lock().values().map(Vec::len).sum();
        let oldest = Duration::from_nanos(self.0.oldest_nanos.load(SeqCst));
        let outcomes = self.0.outcomes.lock().clone();
        format!("{commits} commits, answers {outcomes:?}, none older than {oldest:?}")
    }
}
