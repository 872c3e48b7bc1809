//! What the pages of a list have in common: whether the table has changed since they were read.
//!
//! Nobody knows which pages a changed row is on, or would be on, so a change makes all of them old.
//! That costs one addition: each page carries the generation in which its read began, and only those
//! of the current one are served.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Changes that are remembered, the newest ones. A change is told by its writer, by the log and by
/// the tail; one that is forgotten meanwhile only empties the pages once more.
const REMEMBERED_MAX: usize = 16_384;

/// The pages of one list in one process.
#[derive(Debug)]
pub(crate) struct Collection {
    /// Grows with each change.
    generation: AtomicI64,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// Each change has a version of its own, so a version says which change it was.
    versions: HashSet<i64>,
    order: VecDeque<i64>,
    last_at: Option<Instant>,
}

impl Collection {
    pub(crate) fn new() -> Self {
        Self { generation: AtomicI64::new(1), changes: Mutex::default() }
    }

    /// To be noted before the first read of a page, and to be compared, after the view was taken,
    /// with that of a page that was found.
    pub(crate) fn generation(&self) -> i64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The table changed to this version, or, without one, in a way that nobody can name. Makes all
    /// pages old, unless they are known to contain the change; whether it did.
    pub(crate) fn change(&self, version: Option<i64>) -> bool {
        let mut changes = self.changes.lock();
        // Under the lock, or the tail could take for done what is about to be done, and vouch for
        // a page that is still served.
        if version.is_some_and(|version| !changes.add(version)) {
            return false;
        }
        changes.last_at = Some(Instant::now());
        self.generation.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Nobody can say what has changed. The versions may be given out again.
    pub(crate) fn restart(&self) {
        let mut changes = self.changes.lock();
        *changes = Changes { last_at: Some(Instant::now()), ..Changes::default() };
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the table has not changed for so long, as far as this process knows.
    pub(crate) fn is_calm(&self, calm: Duration) -> bool {
        self.changes.lock().last_at.is_none_or(|last_at| last_at.elapsed() >= calm)
    }
}

impl Changes {
    /// Whether the version is new.
    fn add(&mut self, version: i64) -> bool {
        if !self.versions.insert(version) {
            return false;
        }
        self.order.push_back(version);
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.versions.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when a change is compared with others: an older version may be committed later.
    #[test]
    fn every_change_counts_once_in_whatever_order_they_come() {
        let collection = Collection::new();
        assert_eq!(collection.generation(), 1);
        assert!(collection.change(Some(9)) && collection.change(Some(7)));
        assert!(!collection.change(Some(9)), "told before");
        assert_eq!(collection.generation(), 3);
        assert!(collection.change(None) && collection.change(None));
        assert_eq!(collection.generation(), 5);
        collection.restart();
        assert_eq!(collection.generation(), 6);
        assert!(collection.change(Some(9)), "another row may have this version now");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let collection = Collection::new();
        let count = i64::try_from(REMEMBERED_MAX).expect("small");
        for version in 0..=count {
            assert!(collection.change(Some(version)));
        }
        let changes = collection.changes.lock();
        assert!(!changes.versions.contains(&0) && changes.versions.contains(&1));
        assert_eq!((changes.order.len(), changes.versions.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_calm_a_while_after_the_last_change() {
        const SECOND: Duration = Duration::from_secs(1);
        let collection = Collection::new();
        assert!(collection.is_calm(SECOND), "nothing is known to have changed");
        collection.change(Some(1));
        tokio::time::advance(SECOND / 2).await;
        assert!(!collection.is_calm(SECOND));
        tokio::time::advance(SECOND / 2).await;
        assert!(collection.is_calm(SECOND));
    }
}
