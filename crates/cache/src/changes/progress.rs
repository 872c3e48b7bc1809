//! How far this process knows of changes, and which entries of L1 may be served.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::Instant;

use crate::l1::local::Slot;
use crate::sync::Counter;

/// How far the outbox was read. One task writes it; reads are two atomic loads.
#[derive(Debug)]
pub(crate) struct Progress<A: Counter = AtomicU64> {
    origin: Instant,
    staleness_max: Duration,
    /// Counts the points from which the outbox was followed without a gap; zero before the first.
    era: A,
    /// Nanoseconds after `origin` before which every committed change has been applied.
    caught_up_at: A,
}

/// What was known when a read began. It must be taken before anything is read from a cache: a later
/// one could vouch for an entry that was replaced meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    /// When it was taken.
    pub(crate) at: Instant,
    /// Every change committed before this instant has been applied, if the era is not zero.
    pub(crate) caught_up_at: Instant,
    pub(crate) era: u64,
}

impl View {
    /// Whether every change committed more than `bound` before this view was taken has been applied.
    pub(crate) fn is_within(&self, bound: Duration) -> bool {
        self.era != 0 && self.at.saturating_duration_since(self.caught_up_at) <= bound
    }

    /// Time since the last moment up to which every change has been applied; absent before the first.
    pub(crate) fn caught_up_ago(&self) -> Option<Duration> {
        (self.era != 0).then(|| self.at.saturating_duration_since(self.caught_up_at))
    }

    /// Whether an L1 entry, found after this view was taken, contains every change committed more
    /// than `bound` before.
    ///
    /// Either it was read from the store within the bound, or the changes have been followed without
    /// a gap since it was read, until a moment within the bound.
    pub(crate) fn trusts(&self, slot: &Slot, bound: Duration) -> bool {
        if self.at >= slot.expires_at {
            return false;
        }
        let is_young = self.at.saturating_duration_since(slot.fetched_at) <= bound;
        is_young || (slot.era == self.era && self.is_within(bound))
    }
}

impl Progress {
    pub(crate) fn new(staleness_max: Duration) -> Self {
        Self::since(Instant::now(), staleness_max)
    }
}

impl<A: Counter> Progress<A> {
    /// With counters of any kind.
    pub(crate) fn since(origin: Instant, staleness_max: Duration) -> Self {
        Self { origin, staleness_max, era: A::of(0), caught_up_at: A::of(0) }
    }

    pub(crate) fn staleness_max(&self) -> Duration {
        self.staleness_max
    }

    pub(crate) fn view(&self) -> View {
        let at = Instant::now();
        // In this order, which is the opposite of the writer's: the era may be newer than the
        // instant, which is harmless, but never older.
        let caught_up_at = self.caught_up_at.get();
        let era = self.era.get();
        View { at, caught_up_at: self.origin + Duration::from_nanos(caught_up_at), era }
    }

    /// Every change committed before `instant` has been applied.
    pub(crate) fn caught_up(&self, instant: Instant) {
        let nanos = instant.saturating_duration_since(self.origin).as_nanos();
        self.caught_up_at.raise_to(u64::try_from(nanos).unwrap_or(u64::MAX));
    }

    /// Changes are followed from `instant` on, and nobody can say what changed before.
    pub(crate) fn restart(&self, instant: Instant) {
        self.era.increment();
        self.caught_up(instant);
    }
}

#[cfg(test)]
mod tests {
    //! When an L1 entry is trusted. Time is tokio's, so the tests move it.

    use super::*;
    use crate::l1::local::tests::slot_at;

    const MS: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn an_entry_whose_changes_nobody_follows_is_trusted_for_the_bound_only() {
        let progress = Progress::new(HOUR);
        let slot = slot_at(Instant::now(), HOUR * 2, progress.view().era);
        tokio::time::advance(100 * MS).await;
        assert!(progress.view().trusts(&slot, 100 * MS));
        tokio::time::advance(MS).await;
        assert!(!progress.view().trusts(&slot, 100 * MS));
    }

    /// Each line removes one of the conditions; each was needed.
    #[tokio::test(start_paused = true)]
    async fn changes_followed_without_a_gap_prolong_trust() {
        let progress = Progress::new(HOUR);
        let older = slot_at(Instant::now(), HOUR, progress.view().era);
        progress.restart(Instant::now());
        let slot = slot_at(Instant::now(), HOUR, progress.view().era);
        tokio::time::advance(60_000 * MS).await;
        progress.caught_up(Instant::now());
        tokio::time::advance(50 * MS).await;
        assert!(progress.view().trusts(&slot, 100 * MS));
        assert!(!progress.view().trusts(&slot, 49 * MS), "the last question is too old");
        assert!(!progress.view().trusts(&older, 100 * MS), "read before anybody followed");
        let before = progress.view();
        progress.restart(Instant::now());
        assert!(!progress.view().trusts(&slot, 49 * MS), "there was a gap");
        assert!(before.trusts(&slot, 100 * MS), "a view stays as it is");
        tokio::time::advance(HOUR).await;
        progress.caught_up(Instant::now());
        assert!(!before.is_within(Duration::ZERO));
        assert!(
            !progress.view().trusts(&slot_at(Instant::now(), Duration::ZERO, 2), HOUR),
            "expired"
        );
    }
}
