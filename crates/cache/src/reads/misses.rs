//! Misses of L1 on their way: those that come together ask L2 together.

use std::sync::Arc;

use forebay_config::EntityCacheConfig;
use tracing::{Instrument, Span};

use crate::entity_cache::EntityInner;
use crate::reads::collector::{BATCH_KEYS_MAX, Batch, Collector, Joined, Limits, Passenger};
use crate::reads::fetch::{Departure, fetch};
use crate::reads::flight::Ticket;
use crate::{Entity, Loader, Reach};

/// Reads of L2 under way at once, of one entity. Each has a deadline of `l2_timeout`.
const L2_READS_MAX: usize = 8;
/// Pages of a list that are read from L2 with one command: some megabytes.
const BATCH_PAGES_MAX: usize = 8;

/// Keys of a read that departs at once if nothing is under way: a few more would not make its round
/// trip worth while.
const ALONE_MIN: usize = 16;

/// Name, description and value of a gauge.
type Gauge<T> = (&'static str, &'static str, fn(&T) -> usize);

/// The misses of one entity.
#[derive(Debug)]
pub(crate) struct Misses<E: Entity, L: Loader<E>>(Arc<Collector<Party<E, L>>>);

/// What one read could not find in L1.
pub(crate) struct Party<E: Entity, L: Loader<E>> {
    tickets: Vec<Ticket<E, L>>,
    span: Span,
}

impl<E: Entity, L: Loader<E>> Passenger for Party<E, L> {
    fn keys(&self) -> usize {
        self.tickets.len()
    }
}

impl<E: Entity, L: Loader<E>> Misses<E, L> {
    pub(crate) fn new(config: &EntityCacheConfig) -> Self {
        let batch_keys_max = match E::REACH {
            Reach::Key => BATCH_KEYS_MAX,
            Reach::Collection => BATCH_PAGES_MAX,
        };
        Self(Collector::new(Limits {
            batch_keys_max,
            under_way_max: L2_READS_MAX,
            waiting_keys_max: config.loads_waiting_keys_max,
        }))
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// Sends the tickets of one read on their way, with those of others if that saves a round
    /// trip.
    ///
    /// Everything happens in tasks of its own: when the caller goes away, the others still get
    /// their answer.
    pub(crate) fn depart(self: &Arc<Self>, tickets: Vec<Ticket<E, L>>, asks_l2: bool) {
        let span = Span::current();
        if !asks_l2 {
            // L2 is not asked, so there is no round trip to share; the loads are shared later.
            let inner = Arc::clone(self);
            let departure = inner.departure(asks_l2);
            tokio::spawn(fetch(inner, tickets, departure, None).instrument(span));
            return;
        }
        let mut party = Party { tickets, span };
        if party.keys() >= ALONE_MIN {
            match self.misses.0.depart_alone(party) {
                Ok(batch) => return drop(tokio::spawn(Arc::clone(self).travel(batch))),
                Err(refused) => party = refused,
            }
        }
        match self.misses.0.join(party) {
            Joined::Waiting(_) => {}
            Joined::Conducts(_) => drop(tokio::spawn(Arc::clone(self).conduct_misses())),
            Joined::Refused(party) => {
                self.cache.metrics.load_refused(E::NAME);
                for ticket in party.tickets {
                    ticket.land(Err(self.loads.overloaded()));
                }
            }
        }
    }

    /// Lets batches depart until nobody waits.
    async fn conduct_misses(self: Arc<Self>) {
        while let Some((batch, is_last)) = self.misses.0.next().await {
            let travel = Arc::clone(&self).travel(batch);
            if is_last {
                return travel.await;
            }
            tokio::spawn(travel);
        }
    }

    async fn travel(self: Arc<Self>, Batch { passengers, ride }: Batch<Party<E, L>>) {
        let mut parties = passengers.into_iter();
        let (mut tickets, span) = parties
            .next()
            .map_or_else(|| (Vec::new(), Span::none()), |first| (first.tickets, first.span));
        tickets.extend(parties.flat_map(|party| party.tickets));
        let departure = self.departure(true);
        fetch(self, tickets, departure, Some(ride)).instrument(span).await;
    }

    /// To be made before the first read of a batch.
    fn departure(&self, asks_l2: bool) -> Departure {
        // Later than the views of the callers, so it knows of more.
        Departure { view: self.cache.progress.view(), asks_l2 }
    }

    pub(crate) fn register_gauges(self: &Arc<Self>) {
        let gauges: [Gauge<Self>; 2] = [
            ("forebay.cache.loads.under_way", "Loads under way.", |entity| entity.loads.usage().0),
            ("forebay.cache.loads.waiting", "Keys that wait to be read.", |entity| {
                entity.loads.usage().1 + entity.misses.0.usage().1
            }),
        ];
        for (name, description, read) in gauges {
            let weak = Arc::downgrade(self);
            let read = move || {
                weak.upgrade().map(|entity| u64::try_from(read(&entity)).unwrap_or(u64::MAX))
            };
            self.cache.metrics.gauge(name, description, Some(E::NAME), read);
        }
    }
}
