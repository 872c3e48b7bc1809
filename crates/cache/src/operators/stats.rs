//! The state of the cache of a process, for an operator. Nothing here asks a store.

use std::time::Duration;

use crate::entity_cache::EntityInner;
use crate::metrics::Forgotten;
use crate::{Cache, Entity, Loader, Outcome};

/// The state of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheStats {
    /// Bytes held in L1.
    pub l1_bytes: u64,
    /// Limit of the bytes held in L1.
    pub l1_bytes_max: u64,
    /// Entries held in L1.
    pub l1_entries: u64,
    /// Bytes held in L1 of pages of lists, beside those.
    pub l1_list_bytes: u64,
    /// Limit of the bytes of pages.
    pub l1_list_bytes_max: u64,
    /// Whether entries of L2 are used.
    pub l2_state: L2State,
    /// State of the breaker in front of Redis: `closed`, `open` or `half_open`.
    pub l2_breaker: &'static str,
    /// The epochs of the entries that are used, in order; absent while L2 is not trusted.
    pub l2_epoch: Option<String>,
    /// Failed operations on Redis since the start of the process.
    pub l2_errors: u64,
    /// Time since the last moment up to which every committed change is known; absent before
    /// Postgres was first asked.
    pub caught_up_ago: Option<Duration>,
    /// Questions to the outbox without an answer since the start of the process.
    pub tail_failures: u64,
    /// How often both levels were given up since the start of the process, by reason: nobody could
    /// say what had changed (`other_history`, `lost_transactions`, `too_old`), or too much had
    /// (`truncated`, `too_many`).
    pub forgotten: Vec<(&'static str, u64)>,
    /// How often what Redis holds was given up for a new epoch, by reason: as above, `no_claim` (it
    /// did not say what it had been told), or `pending_full` (too many changes waited for it).
    pub l2_forgotten: Vec<(&'static str, u64)>,
    /// Changes that Redis has not confirmed.
    pub pending: usize,
    /// Limit of those; one more, and they are given up for a new epoch.
    pub pending_max: usize,
    /// Changes of which this process remembers where they were announced, so that Redis is not told
    /// again.
    pub announced: usize,
    /// Limit of those; for one more the oldest is forgotten.
    pub announced_max: usize,
    /// The entities, in the order in which they were added.
    pub entities: Vec<EntityStats>,
}

/// The state of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityStats {
    /// Its name.
    pub entity: &'static str,
    /// Reads by outcome since the start of the process.
    pub outcomes: Vec<(Outcome, u64)>,
    /// Bytes held in L1.
    pub l1_bytes: u64,
    /// Entries held in L1.
    pub l1_entries: u64,
    /// Keys that are being read, from L2 or from the store.
    pub reads_in_flight: usize,
    /// Loads under way.
    pub loads_in_flight: usize,
    /// Limit of those.
    pub loads_max: usize,
    /// Keys that wait to be loaded.
    pub keys_waiting: usize,
    /// Limit of those; one more is refused.
    pub keys_waiting_max: usize,
    /// Fills of L2 by result since the start of the process.
    pub fills: Vec<(&'static str, u64)>,
    /// Forgotten keys by who said so, since the start of the process.
    pub invalidations: Vec<(&'static str, u64)>,
    /// Hits checked against Postgres by result, since the start of the process: `stale` ones were
    /// older than their bound allows.
    pub verified: Vec<(&'static str, u64)>,
}

/// Whether entries of L2 are used, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L2State {
    /// They are.
    Trusted,
    /// Redis was not reached, or was lost.
    Unconnected,
    /// Redis was reached, and it is not known yet whether its entries are right.
    Unchecked,
    /// Entries may be wrong and nobody knows which; a new epoch is about to say so.
    Renewing,
}

impl L2State {
    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Unconnected => "unconnected",
            Self::Unchecked => "unchecked",
            Self::Renewing => "renewing",
        }
    }
}

impl Cache {
    /// The state of the cache now.
    pub fn stats(&self) -> CacheStats {
        let inner = &self.0;
        inner.local.settle();
        inner.pages.settle();
        let (l1_bytes, l1_entries) = inner.local.usage();
        CacheStats {
            l1_bytes,
            l1_bytes_max: inner.local.bytes_max(),
            l1_entries,
            l1_list_bytes: inner.pages.usage().0,
            l1_list_bytes_max: inner.pages.bytes_max(),
            l2_state: inner.dataset.state(),
            l2_breaker: inner.remote.breaker_state(),
            l2_epoch: inner.remote.last_epoch(),
            l2_errors: inner.metrics.l2_failures(),
            caught_up_ago: inner.progress.view().caught_up_ago(),
            tail_failures: inner.metrics.tail_failures(),
            forgotten: inner.metrics.forgotten(Forgotten::Everything),
            l2_forgotten: inner.metrics.forgotten(Forgotten::L2),
            pending: inner.pending.len(),
            pending_max: inner.pending.max(),
            announced: inner.memory.len(),
            announced_max: inner.memory.max(),
            entities: inner.entities.read().iter().filter_map(|entity| entity.stats()).collect(),
        }
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    pub(crate) fn stats(&self) -> EntityStats {
        let (l1_bytes, l1_entries) = self.local.usage_of(self.id);
        let (loads_in_flight, keys_waiting) = self.loads.usage();
        EntityStats {
            entity: E::NAME,
            outcomes: self.outcomes.counts(),
            l1_bytes,
            l1_entries,
            reads_in_flight: self.flights.under_way(),
            loads_in_flight,
            loads_max: self.config.loads_max,
            keys_waiting,
            keys_waiting_max: self.config.loads_waiting_keys_max,
            fills: self.cache.metrics.fills(E::NAME),
            invalidations: self.cache.metrics.invalidations(E::NAME),
            verified: self.cache.metrics.checks(E::NAME),
        }
    }
}
