//! How a read goes on that L1 has not answered.

use std::sync::Arc;

use tokio::time::Instant;

use crate::changes::settled::Standing;
use crate::entity_cache::EntityInner;
use crate::reads::flight::Boarding;
use crate::reads::terms::Terms;
use crate::{Ask, CacheError, Entity, Loader};

/// Where the answer of one read may come from.
pub(crate) struct Plan<'a> {
    terms: &'a Terms,
    pub(crate) asks_l2: bool,
    /// An answer contains every change committed before this, ...
    fresh_at: Instant,
    /// ... and must contain those before this. `None` if it must be read from the store now.
    since: Option<Instant>,
}

impl Plan<'_> {
    /// What a flight must contain that is joined, and what one contains that is begun.
    pub(crate) fn times(&self) -> (Option<Instant>, Instant) {
        (self.since, self.fresh_at)
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// # Errors
    /// If the caller names a version that was never given out.
    pub(crate) async fn plan<'a>(
        &self,
        ask: Ask,
        standing: Option<Standing>,
        terms: &'a Terms,
    ) -> Result<Plan<'a>, CacheError<L::Error>> {
        if let Some(Standing::Doubtful) = standing {
            Box::pin(self.check_version(ask.min_version)).await?;
        }
        Ok(self.plan_of(terms))
    }

    /// The same for whoever has named no version that is in doubt.
    pub(crate) fn plan_of<'a>(&self, terms: &'a Terms) -> Plan<'a> {
        let asks_l2 = terms.allow_l2() && self.is_calm();
        let fresh_at = if asks_l2 { terms.view.caught_up_at } else { terms.view.at };
        Plan { terms, asks_l2, fresh_at, since: terms.since(fresh_at) }
    }

    /// Joins a read of the key that is under way, or begins one.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: &E::Key,
        hash: u64,
        plan: &Plan<'_>,
        left: u64,
    ) -> Boarding<E, L> {
        self.flights.board(
            (key, hash),
            plan.times(),
            Some(left),
            || self.generation(hash),
            || self.found(hash, key, plan.terms).map(|(_, lookup)| lookup),
        )
    }
}
