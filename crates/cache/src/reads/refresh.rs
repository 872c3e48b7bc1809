//! Early refresh: what is read all the time is read again before it expires.
//!
//! A hit whose entry has little time left is answered from the cache at once, and with some chance
//! the entry is read again in the background, by one process for all: it takes the lease of an entry
//! that is still there. The chance is that of "Optimal Probabilistic Cache Stampede Prevention"
//! (Vattani, Chierichetti, Lowenstein, VLDB 2015): it grows as the end comes near, and earlier the
//! longer a load takes, so of many readers one is likely to come early enough, and few do.
//!
//! A refresh is a read like any other, and what it brings is stored as that of any other: a change
//! that comes meanwhile voids its lease in L2 and the generation of its stripe in L1. Whoever misses
//! the key while it is under way joins it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::EntityCacheConfig;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::entity_cache::EntityInner;
use crate::l1::local::Slot;
use crate::reads::flight::{Boarding, Landed, arrive};
use crate::reads::terms::Terms;
use crate::{Entity, Loader, Lookup, Outcome};

/// Refreshes under way at once of one entity. One more is left out: another read of the key will
/// begin it, or it expires.
const UNDER_WAY_MAX: usize = 64;
/// A load that takes less than this counts as this: otherwise a key that is read a hundred times a
/// second would mostly expire between two reads. Beside times to live of minutes it is nothing.
const LOAD_MIN: Duration = Duration::from_millis(50);
/// But no more than this part of the time to live.
const LOAD_MIN_PART: u32 = 20;
/// No number that is drawn has a negative logarithm above this: they have 53 bits.
const LOGARITHM_MAX: f64 = 37.0;
/// After a failed refresh there is none for so long: what expires meanwhile is loaded by whoever
/// wants it.
const REST: Duration = Duration::from_secs(1);

/// The refreshes of one entity.
#[derive(Debug)]
pub(crate) struct Refreshes {
    beta: f64,
    /// Entries that have more loads left to live than this are not due, whatever is drawn.
    loads_before: u32,
    load_min: Duration,
    under_way: Arc<Semaphore>,
    /// None is begun before.
    rests_until: Mutex<Option<Instant>>,
}

impl Refreshes {
    pub(crate) fn new(beta: f64, config: &EntityCacheConfig) -> Self {
        let shortest = config.ttl.min(config.negative_ttl);
        Self {
            beta,
            loads_before: loads_before(beta),
            load_min: LOAD_MIN.min(shortest / LOAD_MIN_PART),
            under_way: Arc::new(Semaphore::new(UNDER_WAY_MAX)),
            rests_until: Mutex::new(None),
        }
    }

    fn is_resting(&self) -> bool {
        self.rests_until.lock().is_some_and(|until| Instant::now() < until)
    }
}

/// How many loads before its end an entry may become due, rounded up.
fn loads_before(beta: f64) -> u32 {
    Duration::try_from_secs_f64((beta * LOGARITHM_MAX).ceil())
        .map_or(u32::MAX, |loads| u32::try_from(loads.as_secs()).unwrap_or(u32::MAX))
}

/// Whether a read with this luck, a number from zero to below one, refreshes an entry that has this
/// time left, where a load takes so long.
fn is_due(left: Duration, load: Duration, beta: f64, luck: f64) -> bool {
    left.as_secs_f64() < -load.as_secs_f64() * beta * luck.ln()
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// The answer of L1, if it is fresh enough. If it is about to expire, it may be refreshed.
    pub(crate) fn answer(
        self: &Arc<Self>,
        hash: u64,
        key: &E::Key,
        terms: &Terms,
    ) -> Option<Lookup<E>> {
        let (slot, lookup) = self.found(hash, key, terms)?;
        let left = slot.expires_at.saturating_duration_since(terms.view.at);
        let load = self.loads.usual().max(self.refreshes.load_min);
        // This is all that most hits pay.
        if left < load.saturating_mul(self.refreshes.loads_before)
            && is_due(left, load, self.refreshes.beta, self.cache.chance.draw())
        {
            self.refresh(hash, key, terms, &slot);
        }
        Some(lookup)
    }

    /// Reads a key again in the background that L1 holds, unless that is done already.
    #[cold]
    fn refresh(self: &Arc<Self>, hash: u64, key: &E::Key, terms: &Terms, held: &Arc<Slot>) {
        if self.refreshes.is_resting() {
            return;
        }
        let Ok(permit) = Arc::clone(&self.refreshes.under_way).try_acquire_owned() else {
            return self.cache.metrics.refreshed(E::NAME, "shed");
        };
        let plan = self.plan_of(terms);
        // Whoever did it meanwhile has put another slot there.
        let done = || self.found(hash, key, terms).filter(|(slot, _)| !Arc::ptr_eq(slot, held));
        let boarding = self.flights.board(
            (key, hash),
            plan.times(),
            None,
            || self.generation(hash),
            || done().map(|(_, lookup)| lookup),
        );
        let (mut ticket, arrival) = match boarding {
            Boarding::Leads(ticket, arrival) => (ticket, arrival),
            Boarding::Answered(_) | Boarding::Joined(_) => return,
        };
        ticket.renews = Some(held.filled_at_ms);
        // Not a part of the request that happened to begin it.
        let span = tracing::info_span!(
            parent: None,
            "cache",
            otel.name = format!("cache.refresh {}", E::NAME),
            forebay.cache.operation = "cache.refresh",
            forebay.cache.entity = E::NAME,
        );
        span.in_scope(|| self.depart(vec![ticket], plan.asks_l2));
        let entity = Arc::clone(self);
        let watch = async move {
            let _permit = permit;
            entity.have_refreshed(&arrive::<E, L>(arrival).await);
        };
        tokio::spawn(watch.instrument(span));
    }

    fn have_refreshed(&self, landed: &Landed<E, L>) {
        let result = match landed.as_ref().map(|lookup| lookup.outcome) {
            Ok(Outcome::HitL2 | Outcome::NegativeL2) => "shared",
            Ok(_) => "loaded",
            Err(error) => {
                let error: &dyn Error = error;
                tracing::debug!(error, "an entry is left to expire");
                *self.refreshes.rests_until.lock() = Some(Instant::now() + REST);
                "failed"
            }
        };
        self.cache.metrics.refreshed(E::NAME, result);
    }
}

#[cfg(test)]
mod tests;
