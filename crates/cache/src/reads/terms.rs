//! What a read demands of what a cache holds.

use std::time::Duration;

use forebay_pooling::Deadline;
use tokio::time::Instant;

use crate::changes::progress::View;
use crate::changes::settled::Standing;
use crate::entity_cache::EntityInner;
use crate::l1::local::Slot;
use crate::{Ask, CacheError, Entity, Loader, Reach};

/// The demands of one read, made before it looks anywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) view: View,
    /// How old an answer may be; `None` for the store itself.
    pub(crate) bound: Option<Duration>,
    /// The highest version that the caller has seen; 0 if he does not say.
    pub(crate) min_version: i64,
    /// Every change up to that version has been applied in the era of the view.
    pub(crate) is_settled: bool,
    /// What is held has the version of its row. The pages of a list have none.
    pub(crate) has_version: bool,
}

impl Terms {
    /// Whether a slot of L1 may be served.
    pub(crate) fn accept(&self, slot: &Slot) -> bool {
        self.bound.is_some_and(|bound| self.view.trusts(slot, bound)) && self.contain(slot)
    }

    /// Whether a slot of L1 contains what the caller has seen, however old it is.
    ///
    /// Versions of one row are in the order of its changes. So if the slot has a higher version than
    /// any that the caller has seen, he has seen none of its row that is newer. If not, every change
    /// that he can have seen must have been applied to what is held, without a gap since it was read.
    pub(crate) fn contain(&self, slot: &Slot) -> bool {
        self.min_version == 0
            || (self.has_version && self.min_version <= slot.version)
            || (self.is_settled && self.view.era != 0 && slot.era == self.view.era)
    }

    /// Whether L2 may be asked.
    pub(crate) fn allow_l2(&self) -> bool {
        self.is_settled && self.bound.is_some_and(|bound| self.view.is_within(bound))
    }

    /// A read of somebody else must contain every change committed before this instant; without one
    /// none will do.
    /// What is read now contains what was committed before `fresh_at`.
    pub(crate) fn since(&self, fresh_at: Instant) -> Option<Instant> {
        let bound = self.bound?;
        // A clock that is younger than the bound has no such instant; then nothing is too old.
        let within = self.view.at.checked_sub(bound).unwrap_or(fresh_at);
        Some(match (self.min_version, self.is_settled) {
            (0, _) => within,
            // What he has seen was committed before the question that settled it was sent.
            (_, true) => within.max(self.view.caught_up_at),
            // And this, before he asked.
            (_, false) => self.view.at,
        })
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// What is known of the version that the caller has seen; to be asked before anything else.
    pub(crate) fn standing(&self, ask: Ask) -> Option<Standing> {
        (ask.min_version > 0).then(|| self.cache.settled.standing(ask.min_version))
    }

    pub(crate) fn terms(
        &self,
        Ask { consistency, min_version }: Ask,
        standing: Option<Standing>,
    ) -> Terms {
        let view = self.cache.progress.view();
        let is_settled = match standing {
            None => true,
            Some(Standing::Settled { era }) => era == view.era,
            Some(Standing::Open | Standing::Doubtful) => false,
        };
        Terms {
            view,
            bound: self.bound(consistency),
            min_version,
            is_settled,
            has_version: E::REACH == Reach::Key,
        }
    }

    /// Turns a caller away who names a version that was never given out. Otherwise the store would be
    /// read for him for ever: no round of the tail can settle it.
    pub(crate) async fn check_version(&self, version: i64) -> Result<(), CacheError<L::Error>> {
        let newest = self.cache.newest.since(Instant::now());
        let newest = match Deadline::current() {
            None => newest.await,
            Some(deadline) => tokio::time::timeout_at(deadline.instant(), newest)
                .await
                .map_err(|_elapsed| CacheError::Deadline)?,
        };
        // If nobody knows, the store is read.
        match newest {
            Some(newest) if newest < version => Err(CacheError::UnknownVersion { version, newest }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Each line takes one of the conditions away.

    use super::*;
    use crate::changes::progress::Progress;
    use crate::l1::local::tests::slot_at;

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn a_slot_contains_what_was_seen_by_its_version_or_by_its_era() {
        let progress = Progress::new(HOUR);
        progress.restart(Instant::now());
        let view = progress.view();
        let slot = |era| {
            let mut slot = slot_at(Instant::now(), HOUR, era);
            slot.version = 7;
            slot
        };
        let terms = |min_version, is_settled| Terms {
            view,
            bound: Some(HOUR),
            min_version,
            is_settled,
            has_version: true,
        };
        let version = 7;
        assert!(terms(0, true).accept(&slot(0)), "nobody has seen anything");
        assert!(terms(version, false).accept(&slot(1)), "by its version");
        assert!(terms(version, false).accept(&slot(0)), "also of another era");
        assert!(terms(version + 1, true).accept(&slot(1)), "by its era");
        assert!(!terms(version + 1, true).accept(&slot(0)), "there was a gap since");
        assert!(!terms(version + 1, false).accept(&slot(1)), "not settled");
        let page = Terms { has_version: false, ..terms(version, false) };
        assert!(!page.accept(&slot(1)), "the number of a page is no version");
        let strict = Terms { bound: None, ..terms(0, true) };
        assert!(!strict.accept(&slot(1)) && strict.contain(&slot(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_of_somebody_else_must_contain_what_was_seen() {
        let progress = Progress::new(HOUR);
        progress.restart(Instant::now());
        tokio::time::advance(Duration::from_millis(100)).await;
        let view = progress.view();
        let bound = Duration::from_millis(300);
        let terms = |min_version, is_settled| Terms {
            view,
            bound: Some(bound),
            min_version,
            is_settled,
            has_version: true,
        };
        assert!(terms(0, true).since(view.at).expect("an instant") < view.caught_up_at);
        assert_eq!(terms(1, true).since(view.at), Some(view.caught_up_at));
        assert_eq!(terms(1, false).since(view.at), Some(view.at));
        assert_eq!(Terms { bound: None, ..terms(1, true) }.since(view.at), None);
        assert!(terms(1, true).allow_l2() && !terms(1, false).allow_l2());
    }
}
