//! Changes that L2 has not confirmed yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::l2::dataset::Dataset;
use crate::metrics::{Forgotten, Metrics};

/// Changes that may wait for Redis. When one more comes, all are given up in favour of a new
/// epoch, which invalidates everything.
pub(crate) const PENDING_MAX: usize = 65_536;

/// One change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalidation {
    /// The key of the entry in Redis.
    pub(crate) entry_key: String,
    pub(crate) entity: &'static str,
    pub(crate) schema: u16,
    pub(crate) key_text: String,
    pub(crate) version: i64,
    /// Whatever version is there must go.
    pub(crate) force: bool,
    /// The change is of the table behind a list, and the entry its collection. The version says which
    /// change it was; it is zero if there are several.
    pub(crate) is_list: bool,
    /// Somebody waits, so other processes are told even if the entry is right already.
    pub(crate) is_own: bool,
}

impl Invalidation {
    /// What is said of the version to others, for whom zero means whatever there is.
    pub(crate) fn announced_version(&self) -> i64 {
        if self.force && !self.is_list { 0 } else { self.version }
    }

    /// Under which the announcement is remembered. The changes of a table have no order, so each is
    /// remembered for itself.
    pub(crate) fn memory_key(&self) -> String {
        if self.is_list { one_of(&self.entry_key, self.version) } else { self.entry_key.clone() }
    }

    /// Whether somebody else's announcement of this version would do.
    pub(crate) fn is_adoptable(&self) -> bool {
        !self.is_own && if self.is_list { self.version > 0 } else { !self.force }
    }

    /// Takes in what waits already for the same collection; whether that will do.
    fn merge(&mut self, waiting: &mut Self) -> bool {
        if waiting.version == self.version && self.version > 0 {
            waiting.is_own |= self.is_own;
            return true;
        }
        self.version = 0;
        self.is_own |= waiting.is_own;
        false
    }
}

/// One change of the table behind a list.
pub(crate) fn one_of(collection_key: &str, version: i64) -> String {
    format!("{collection_key}@{version}")
}

/// The changes that are known to this process and not yet to the data set that it reads.
///
/// While a key is in here, L2 may hold an old value, so only a value that contains the change is
/// taken from there.
#[derive(Debug)]
pub(crate) struct Pending {
    changes: Mutex<Changes>,
    count: AtomicUsize,
    added: Notify,
    settled: Notify,
    max: usize,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Changes {
    by_key: HashMap<String, Change>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Change {
    /// Of the newest change of the key.
    ticket: u64,
    /// Of the oldest one that waits: what replaced it covers it too, but only once confirmed.
    since: u64,
    invalidation: Invalidation,
}

impl Pending {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with_max(PENDING_MAX, metrics)
    }

    pub(crate) fn with_max(max: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            changes: Mutex::new(Changes::default()),
            count: AtomicUsize::new(0),
            added: Notify::new(),
            settled: Notify::new(),
            max,
            metrics,
        })
    }

    /// Adds changes; the newest version of each key is kept. Changes that do not fit are replaced
    /// by a new epoch.
    pub(crate) fn add(&self, invalidations: Vec<Invalidation>, dataset: &Dataset) {
        if invalidations.is_empty() {
            return;
        }
        let mut changes = self.changes.lock();
        for mut invalidation in invalidations {
            let ticket = changes.next_ticket;
            changes.next_ticket += 1;
            if invalidation.is_list
                && let Some(waiting) = changes.by_key.get_mut(&invalidation.entry_key)
                && invalidation.merge(&mut waiting.invalidation)
            {
                continue;
            }
            let waiting = changes.by_key.get(&invalidation.entry_key);
            let since = waiting.map_or(ticket, |waiting| waiting.since);
            let newer = waiting.is_some_and(|waiting| {
                waiting.invalidation.version >= invalidation.version && !invalidation.force
            });
            let is_new = waiting.is_none();
            if newer {
                if let Some(waiting) = changes.by_key.get_mut(&invalidation.entry_key) {
                    waiting.invalidation.is_own |= invalidation.is_own;
                }
                continue;
            }
            if is_new && changes.by_key.len() >= self.max {
                // The need for an epoch is known before the changes are forgotten: nobody may
                // read from L2 in between.
                dataset.require_epoch(None, false);
                changes.by_key.clear();
                self.metrics.forgot(Forgotten::L2, "pending_full");
                tracing::warn!(
                    cache.pending_max = self.max,
                    "too many changes wait for redis, everything in it will be invalidated"
                );
                break;
            }
            let key = invalidation.entry_key.clone();
            changes.by_key.insert(key, Change { ticket, since, invalidation });
        }
        self.count.store(changes.by_key.len(), Ordering::SeqCst);
        drop(changes);
        self.added.notify_one();
        self.settled.notify_waiters();
    }

    /// The oldest version that an entry of L2 may have, if a change of it waits.
    pub(crate) fn version_of(&self, entry_key: &str) -> Option<i64> {
        if self.len() == 0 {
            return None;
        }
        let changes = self.changes.lock();
        let waiting = changes.by_key.get(entry_key)?;
        // What an operator drops has no version of its own: nothing there is good enough.
        let Invalidation { version, force, .. } = waiting.invalidation;
        Some(if force { i64::MAX } else { version })
    }

    /// The newest version of an entry that was committed, if a change of it waits.
    pub(crate) fn committed_version_of(&self, entry_key: &str) -> Option<i64> {
        // What an operator drops has not changed.
        self.version_of(entry_key).filter(|version| *version != i64::MAX)
    }

    /// Forgets everything: what waits is of a history that is lost. A new epoch must be required.
    pub(crate) fn clear(&self) {
        self.changes.lock().by_key.clear();
        self.count.store(0, Ordering::SeqCst);
        self.settled.notify_waiters();
    }

    pub(crate) fn contains(&self, entry_key: &str) -> bool {
        self.version_of(entry_key).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// The ticket of the next change.
    pub(crate) fn next_ticket(&self) -> u64 {
        self.changes.lock().next_ticket
    }

    /// Whether no change with a lower ticket waits.
    pub(crate) fn is_settled_before(&self, ticket: u64) -> bool {
        self.len() == 0 || self.changes.lock().by_key.values().all(|change| change.since >= ticket)
    }

    /// Waits until Redis has confirmed every one of the keys.
    pub(crate) async fn settled(&self, entry_keys: &[String]) {
        self.wait_until(|pending| !entry_keys.iter().any(|key| pending.contains(key))).await;
    }

    /// Waits until Redis has confirmed everything.
    pub(crate) async fn all_settled(&self) {
        self.wait_until(|pending| pending.len() == 0).await;
    }

    /// Waits until a change is added.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let settled: Notified<'_> = self.settled.notified();
            tokio::pin!(settled);
            // Registered before the check, or a confirmation between the two would be missed.
            settled.as_mut().enable();
            if holds(self) {
                return;
            }
            settled.await;
        }
    }

    /// Some changes with their tickets, to be sent.
    pub(crate) fn batch(&self, max: usize) -> Vec<(u64, Invalidation)> {
        let changes = self.changes.lock();
        let waiting = changes.by_key.values().take(max);
        waiting.map(|change| (change.ticket, change.invalidation.clone())).collect()
    }

    /// Forgets confirmed changes, unless newer ones have taken their places meanwhile.
    pub(crate) fn confirm(&self, confirmed: &[(u64, Invalidation)]) {
        let mut changes = self.changes.lock();
        for (ticket, invalidation) in confirmed {
            let key = &invalidation.entry_key;
            if changes.by_key.get(key).is_some_and(|now| now.ticket == *ticket) {
                changes.by_key.remove(key);
            }
        }
        self.count.store(changes.by_key.len(), Ordering::SeqCst);
        drop(changes);
        self.settled.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
