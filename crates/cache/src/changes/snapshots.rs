//! What the tail could see, and when: the evidence of the verifier.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::changes::outbox::Snapshot;

/// Snapshots that are kept: sixteen seconds at the usual interval.
const KEPT_MAX: usize = 64;

/// The snapshots of late, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Snapshots(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    seen: VecDeque<Seen>,
    /// Counts the times at which all were given up.
    generation: u64,
}

/// What could be seen at an instant.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Everything visible in the snapshot was committed before this instant.
    pub(crate) at: Instant,
    pub(crate) snapshot: Arc<str>,
    pub(crate) generation: u64,
}

impl Snapshots {
    /// Keeps a snapshot that was taken before `at`.
    pub(crate) fn add(&self, at: Instant, snapshot: &Snapshot) {
        let mut kept = self.0.lock();
        let generation = kept.generation;
        if kept.seen.len() >= KEPT_MAX {
            kept.seen.pop_front();
        }
        kept.seen.push_back(Seen { at, snapshot: snapshot.as_str().into(), generation });
    }

    /// Gives up all: ids of transactions may mean others from now on.
    pub(crate) fn clear(&self) {
        let mut kept = self.0.lock();
        kept.seen.clear();
        kept.generation += 1;
    }

    /// The newest snapshot of which all was committed before `instant`.
    pub(crate) fn before(&self, instant: Instant) -> Option<Seen> {
        let kept = self.0.lock();
        kept.seen.iter().rev().find(|seen| seen.at <= instant).cloned()
    }

    /// Whether a snapshot still means what it meant.
    pub(crate) fn holds(&self, seen: &Seen) -> bool {
        self.0.lock().generation == seen.generation
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_that_is_old_enough_is_found() {
        const MS: Duration = Duration::from_millis(1);
        let snapshots = Snapshots::default();
        let start = Instant::now();
        for at in 1..=100_u32 {
            let snapshot = format!("{at}:{at}:").parse().expect("a snapshot");
            snapshots.add(start + at * MS, &snapshot);
        }
        let found = |at: u32| snapshots.before(start + at * MS).map(|seen| seen.snapshot);
        assert_eq!(found(1000).as_deref(), Some("100:100:"));
        assert_eq!(found(70).as_deref(), Some("70:70:"));
        assert_eq!(found(36), None, "given up for newer ones");
        let seen = snapshots.before(start + 70 * MS).expect("one");
        assert!(snapshots.holds(&seen));
        snapshots.clear();
        assert!(!snapshots.holds(&seen) && found(1000).is_none());
    }
}
