//! Changes that Redis has not confirmed yet, and the task that brings them there.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use forebay_pooling::Backoff;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::link::Link;
use crate::remote::{Invalidation, Remote};

/// Changes that may wait for Redis. When one more comes, all are given up in favour of a new
/// epoch, which invalidates everything.
const PENDING_MAX: usize = 65_536;
/// Changes sent in one pipeline.
const BATCH_MAX: usize = 512;
/// In the place of an entity's name: all of them.
const EVERYTHING: &str = "*";
/// Pauses between attempts while Redis does not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// The changes of this process that Redis has not confirmed.
///
/// While a key is in here, L2 may hold its old value, so this process does not read the key from
/// there.
#[derive(Debug)]
pub(crate) struct Pending {
    changes: Mutex<Changes>,
    count: AtomicUsize,
    added: Notify,
    settled: Notify,
    max: usize,
}

#[derive(Debug, Default)]
struct Changes {
    by_key: HashMap<String, Change>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Change {
    ticket: u64,
    invalidation: Invalidation,
}

impl Pending {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_max(PENDING_MAX)
    }

    pub(crate) fn with_max(max: usize) -> Arc<Self> {
        Arc::new(Self {
            changes: Mutex::new(Changes::default()),
            count: AtomicUsize::new(0),
            added: Notify::new(),
            settled: Notify::new(),
            max,
        })
    }

    /// Adds changes; the newest version of each key is kept. Changes that do not fit are replaced
    /// by a new epoch.
    pub(crate) fn add(&self, invalidations: Vec<Invalidation>, link: &Link) {
        let mut changes = self.changes.lock();
        for invalidation in invalidations {
            let ticket = changes.next_ticket;
            changes.next_ticket += 1;
            let newer = changes.by_key.get(&invalidation.key).is_some_and(|waiting| {
                waiting.invalidation.version > invalidation.version && !invalidation.force
            });
            if newer {
                continue;
            }
            if changes.by_key.len() >= self.max && !changes.by_key.contains_key(&invalidation.key) {
                // The need for an epoch is known before the changes are forgotten: nobody may
                // read from L2 in between.
                link.require_epoch();
                changes.by_key.clear();
                tracing::warn!(
                    cache.pending_max = self.max,
                    "too many changes wait for redis, everything in it will be invalidated"
                );
                break;
            }
            changes.by_key.insert(invalidation.key.clone(), Change { ticket, invalidation });
        }
        self.count.store(changes.by_key.len(), Ordering::SeqCst);
        drop(changes);
        self.added.notify_one();
    }

    pub(crate) fn contains(&self, key: &str) -> bool {
        self.count.load(Ordering::SeqCst) != 0 && self.changes.lock().by_key.contains_key(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Waits until Redis has confirmed every one of the keys.
    pub(crate) async fn settled(&self, keys: &[String]) {
        self.wait_until(|pending| !keys.iter().any(|key| pending.contains(key))).await;
    }

    /// Waits until Redis has confirmed everything.
    pub(crate) async fn all_settled(&self) {
        self.wait_until(|pending| pending.len() == 0).await;
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

    fn batch(&self) -> Vec<(u64, Invalidation)> {
        let changes = self.changes.lock();
        let waiting = changes.by_key.values().take(BATCH_MAX);
        waiting.map(|change| (change.ticket, change.invalidation.clone())).collect()
    }

    /// Forgets a confirmed change, unless a newer one has taken its place meanwhile.
    fn confirm(&self, confirmed: &[(u64, Invalidation)]) {
        let mut changes = self.changes.lock();
        for (ticket, invalidation) in confirmed {
            let same =
                changes.by_key.get(&invalidation.key).is_some_and(|now| now.ticket == *ticket);
            if same {
                changes.by_key.remove(&invalidation.key);
            }
        }
        self.count.store(changes.by_key.len(), Ordering::SeqCst);
        drop(changes);
        self.settled.notify_waiters();
    }
}

/// Sends the pending changes, again and again until Redis confirms them. Never ends.
pub(crate) async fn send_pending(pending: Arc<Pending>, remote: Arc<Remote>) {
    let mut failures = 0_u32;
    loop {
        let batch = pending.batch();
        if batch.is_empty() {
            pending.added.notified().await;
            continue;
        }
        let invalidations: Vec<_> = batch.iter().map(|(_, change)| change.clone()).collect();
        let done = remote.invalidate(&invalidations).await;
        let (confirmed, refused): (Vec<_>, Vec<_>) =
            batch.into_iter().zip(done).partition(|(_, done)| *done);
        let confirmed: Vec<_> = confirmed.into_iter().map(|(change, _)| change).collect();
        pending.confirm(&confirmed);
        if refused.is_empty() {
            failures = 0;
        } else {
            failures = failures.saturating_add(1);
            tokio::time::sleep(BACKOFF.delay(failures)).await;
        }
    }
}

/// What travels on the channel: who changed which key, and to which version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announcement<'a> {
    pub(crate) origin: &'a str,
    pub(crate) entity: &'a str,
    pub(crate) version: i64,
    pub(crate) key_text: &'a str,
}

impl<'a> Announcement<'a> {
    /// The announcement that anything may have changed.
    pub(crate) fn everything(origin: &'a str) -> Self {
        Self { origin, entity: EVERYTHING, version: 0, key_text: "" }
    }

    /// The announcement that anything of one entity may have changed. A release that knows only
    /// the one above reads it as that.
    pub(crate) fn everything_of(origin: &'a str, entity: &'a str) -> Self {
        Self { origin, entity: EVERYTHING, version: 0, key_text: entity }
    }

    /// The entity of which anything may have changed; the inner `None` means all of them.
    pub(crate) fn everything_named(&self) -> Option<Option<&'a str>> {
        (self.entity == EVERYTHING).then(|| Some(self.key_text).filter(|entity| !entity.is_empty()))
    }

    /// `1 origin entity version key`: the key comes last because it may contain anything.
    pub(crate) fn encode(&self) -> Bytes {
        let Self { origin, entity, version, key_text } = self;
        Bytes::from(format!("1 {origin} {entity} {version} {key_text}"))
    }

    /// `None` for anything else, such as the message of a later release.
    pub(crate) fn decode(message: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(message).ok()?.splitn(5, ' ');
        let format = parts.next()?;
        let (origin, entity) = (parts.next()?, parts.next()?);
        let version = parts.next()?.parse().ok()?;
        let key_text = parts.next()?;
        (format == "1").then_some(Self { origin, entity, version, key_text })
    }
}

#[cfg(test)]
mod tests;
