//! The handle through which one entity is read and invalidated.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::EntityCacheConfig;
use forebay_pooling::Deadline;
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Instrument, Span, field};

use crate::cache::CacheInner;
use crate::changes::settled::Standing;
use crate::l1::key::KnownHash;
use crate::l1::local::{EntityId, Local, Slot};
use crate::lists::collection::Collection;
use crate::metrics::Outcomes;
use crate::reads::flight::{Arrival, Boarding, Flights, Landed, arrive};
use crate::reads::loads::Loads;
use crate::reads::lookup::common_outcome;
use crate::reads::misses::Misses;
use crate::reads::refresh::Refreshes;
use crate::reads::terms::Terms;
use crate::{Ask, CacheError, Consistency, Entity, Loader, Lookup, Outcome, Reach};

/// Reads one entity through both levels. Clones are cheap and share everything.
pub struct EntityCache<E: Entity, L: Loader<E>>(Arc<EntityInner<E, L>>);

pub(crate) struct EntityInner<E: Entity, L: Loader<E>> {
    pub(crate) id: EntityId,
    pub(crate) cache: Arc<CacheInner>,
    /// Where its entries are held.
    pub(crate) local: Arc<Local>,
    /// What its entries have in common, if they are the pages of a list.
    pub(crate) collection: Option<Collection>,
    pub(crate) config: EntityCacheConfig,
    pub(crate) loader: L,
    pub(crate) flights: Arc<Flights<E, L>>,
    pub(crate) misses: Misses<E, L>,
    pub(crate) loads: Loads<E, L>,
    pub(crate) refreshes: Refreshes,
    pub(crate) outcomes: Arc<Outcomes>,
    span_names: SpanNames,
}

/// Names of spans, made once.
struct SpanNames {
    get: String,
    get_many: String,
}

/// A key of a `get_many` on its way to an answer.
enum Place<E: Entity, L: Loader<E>> {
    Here(Lookup<E>),
    Awaited(Arrival<E, L>),
    /// The same key as at this index.
    Same(usize),
}

impl<E: Entity, L: Loader<E>> EntityCache<E, L> {
    pub(crate) fn new(
        id: EntityId,
        cache: Arc<CacheInner>,
        config: EntityCacheConfig,
        loader: L,
    ) -> Self {
        let outcomes = Outcomes::registered(E::NAME, &cache.metrics);
        let span_names = SpanNames {
            get: format!("cache.get {}", E::NAME),
            get_many: format!("cache.get_many {}", E::NAME),
        };
        let (local, collection) = match E::REACH {
            Reach::Key => (&cache.local, None),
            Reach::Collection => (&cache.pages, Some(Collection::new())),
        };
        let inner = Arc::new(EntityInner {
            id,
            flights: Flights::new(),
            misses: Misses::new(&config),
            loads: Loads::new(&config),
            refreshes: Refreshes::new(cache.config.refresh_beta, &config),
            local: Arc::clone(local),
            collection,
            cache,
            config,
            loader,
            outcomes,
            span_names,
        });
        inner.register_gauges();
        Self(inner)
    }

    /// The handle of an entity.
    pub(crate) fn of(inner: Arc<EntityInner<E, L>>) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &Arc<EntityInner<E, L>> {
        &self.0
    }

    /// What a caller gets who asks for nothing else: `staleness_max`, and older entries up to
    /// `stale_max` while the store fails.
    pub fn consistency(&self) -> Consistency {
        Consistency::Available { max_age: self.0.config.stale_max }
    }

    /// Reads one key.
    ///
    /// Callers who want the same key at the same time share one read. Cancel-safe: the read goes
    /// on for the others.
    ///
    /// # Errors
    /// [`CacheError`] if the store had to be read and did not answer. A failing Redis only makes
    /// the read slower.
    pub async fn get(
        &self,
        key: &E::Key,
        ask: impl Into<Ask>,
    ) -> Result<Lookup<E>, CacheError<L::Error>> {
        let (inner, ask) = (&self.0, ask.into());
        let standing = inner.standing(ask);
        let terms = inner.terms(ask, standing);
        let span = inner.span("cache.get", &inner.span_names.get, None);
        let hash = inner.local.hash(inner.id, key);
        let left = inner.flights.left(hash);
        let answer = match inner.answer(hash, key, &terms) {
            Some(lookup) => Ok(lookup),
            // On the heap, or every hit would carry along what a miss needs.
            None => {
                let read = inner.read_one(key, (hash, left), (ask, standing), &terms);
                Box::pin(read.instrument(span.clone())).await
            }
        };
        match &answer {
            Ok(lookup) => {
                let before = inner.outcomes.count(lookup.outcome);
                span.record("forebay.cache.outcome", lookup.outcome.as_str());
                if inner.is_checked(before) {
                    inner.have_verified(key, lookup, ask.consistency, terms.view.at);
                }
            }
            Err(_) => mark_failed(&span),
        }
        answer
    }

    /// Reads several keys; the answers are in the order of the keys, which may repeat.
    ///
    /// What L1 does not hold is asked from Redis with one command, and what Redis does not hold
    /// with one call of the loader.
    ///
    /// # Errors
    /// As [`EntityCache::get`]; the first failure is the failure of all.
    pub async fn get_many(
        &self,
        keys: &[E::Key],
        ask: impl Into<Ask>,
    ) -> Result<Vec<Lookup<E>>, CacheError<L::Error>> {
        let (inner, ask) = (&self.0, ask.into());
        let standing = inner.standing(ask);
        let terms = inner.terms(ask, standing);
        let span = inner.span("cache.get_many", &inner.span_names.get_many, Some(keys.len()));
        let answers = inner.read(keys, ask, standing, &terms).instrument(span.clone()).await;
        match &answers {
            Ok(lookups) => {
                for (key, lookup) in keys.iter().zip(lookups) {
                    let before = inner.outcomes.count(lookup.outcome);
                    if inner.is_checked(before) {
                        inner.have_verified(key, lookup, ask.consistency, terms.view.at);
                    }
                }
                let hits = lookups.iter().filter(|lookup| lookup.outcome.is_hit()).count();
                span.record("forebay.cache.hits", hits);
                span.record("forebay.cache.outcome", common_outcome(lookups));
            }
            Err(_) => mark_failed(&span),
        }
        answers
    }

    /// Makes every replica forget what it holds of these keys. To be called after the commit, with
    /// the versions that were committed.
    ///
    /// This process forgets at once. Returns when Redis has confirmed, so that the others are about
    /// to know, but waits no longer than `l2_timeout` for it: an unconfirmed change is sent again
    /// and again in the background, also when this future is dropped.
    pub async fn invalidate(&self, changes: &[(E::Key, i64)]) {
        self.0.invalidate(changes, false).await;
    }

    /// As [`EntityCache::invalidate`], for keys that may have changed and may not: nobody knows what
    /// became of the commit, so no version of it may be expected of the store.
    pub async fn doubt(&self, keys: &[E::Key]) {
        let changes: Vec<_> = keys.iter().map(|key| (key.clone(), 0)).collect();
        self.0.invalidate(&changes, true).await;
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    fn span(&self, kind: &'static str, name: &str, batch: Option<usize>) -> Span {
        // A span that nobody wants, or one inside a trace that nobody records, would be made for
        // nothing, and a hit in L1 is short enough to feel it.
        if !tracing::span_enabled!(tracing::Level::INFO) {
            return Span::none();
        }
        let unrecorded = Context::map_current(|context| {
            context.has_active_span() && !context.span().is_recording()
        });
        if unrecorded {
            return Span::none();
        }
        let span = tracing::info_span!(
            "cache",
            otel.name = name,
            otel.status_code = field::Empty,
            forebay.cache.operation = kind,
            forebay.cache.entity = E::NAME,
            forebay.cache.outcome = field::Empty,
            forebay.cache.keys = field::Empty,
            forebay.cache.hits = field::Empty,
        );
        if let Some(size) = batch {
            span.record("forebay.cache.keys", size);
        }
        span
    }

    /// What L1 holds of a key, if it is fresh enough.
    pub(crate) fn found(
        &self,
        hash: u64,
        key: &E::Key,
        terms: &Terms,
    ) -> Option<(Arc<Slot>, Lookup<E>)> {
        // Whoever wants the store itself need not look.
        terms.bound?;
        let slot = self.local.get(self.id, hash, key)?;
        if !terms.accept(&slot) || !self.is_current(&slot) {
            return None;
        }
        let value = slot.value::<E>()?;
        let outcome = if value.is_some() { Outcome::HitL1 } else { Outcome::NegativeL1 };
        Some((slot, Lookup { value, outcome }))
    }

    /// How old an answer may be; `None` for the store itself.
    pub(crate) fn bound(&self, consistency: Consistency) -> Option<Duration> {
        let staleness_max = self.cache.progress.staleness_max();
        match consistency {
            Consistency::Strict => None,
            Consistency::Bounded(bound) => Some(bound.min(staleness_max)),
            Consistency::Available { .. } => Some(staleness_max),
        }
    }

    /// How long a row, or the knowledge that there is none, may live from now on; drawn anew each time.
    pub(crate) fn time_to_live(&self, exists: bool) -> Duration {
        let ttl = if exists { self.config.ttl } else { self.config.negative_ttl };
        self.cache.chance.shorten(ttl, self.cache.config.ttl_jitter)
    }

    /// Reads a key that L1 has not answered under these terms.
    async fn read_one(
        self: &Arc<Self>,
        key: &E::Key,
        (hash, left): (u64, u64),
        (ask, standing): (Ask, Option<Standing>),
        terms: &Terms,
    ) -> Landed<E, L> {
        let plan = self.plan(ask, standing, terms).await?;
        match self.board(key, hash, &plan, left) {
            Boarding::Answered(lookup) => Ok(lookup),
            Boarding::Joined(arrival) => self.wait(key, arrival, ask.consistency, terms).await,
            Boarding::Leads(ticket, arrival) => {
                self.depart(vec![ticket], plan.asks_l2);
                self.wait(key, arrival, ask.consistency, terms).await
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        keys: &[E::Key],
        ask: Ask,
        standing: Option<Standing>,
        terms: &Terms,
    ) -> Result<Vec<Lookup<E>>, CacheError<L::Error>> {
        let plan = self.plan(ask, standing, terms).await?;
        let mut tickets = Vec::new();
        let mut places: Vec<Place<E, L>> = Vec::with_capacity(keys.len());
        // A key may be asked for twice; a strict read would otherwise read it twice.
        let mut missed: HashMap<_, _, BuildHasherDefault<KnownHash>> = HashMap::default();
        for (index, key) in keys.iter().enumerate() {
            let hash = self.local.hash(self.id, key);
            let left = self.flights.left(hash);
            // Most keys are here; only the others need the lock of the flights.
            if let Some(lookup) = self.answer(hash, key, terms) {
                places.push(Place::Here(lookup));
                continue;
            }
            let first = *missed.entry(hash).or_insert(places.len());
            if first < places.len() && keys[first] == *key {
                places.push(Place::Same(first));
                continue;
            }
            places.push(match self.board(key, hash, &plan, left) {
                Boarding::Answered(lookup) => Place::Here(lookup),
                Boarding::Joined(arrival) => Place::Awaited(arrival),
                Boarding::Leads(ticket, arrival) => {
                    if tickets.is_empty() {
                        tickets.reserve_exact(keys.len() - index);
                    }
                    tickets.push(ticket);
                    Place::Awaited(arrival)
                }
            });
        }
        if !tickets.is_empty() {
            self.depart(tickets, plan.asks_l2);
        }
        let mut answers: Vec<Lookup<E>> = Vec::with_capacity(places.len());
        for (key, place) in keys.iter().zip(places) {
            answers.push(match place {
                Place::Here(lookup) => lookup,
                Place::Same(first) => answers[first].clone(),
                Place::Awaited(arrival) => self.wait(key, arrival, ask.consistency, terms).await?,
            });
        }
        Ok(answers)
    }

    /// Waits for a flight within the caller's deadline; falls back to an old entry if allowed.
    async fn wait(
        &self,
        key: &E::Key,
        arrival: Arrival<E, L>,
        consistency: Consistency,
        terms: &Terms,
    ) -> Landed<E, L> {
        let landed = match (arrival.answer(), Deadline::current()) {
            (Some(landed), _) => landed.clone(),
            (None, None) => arrive::<E, L>(arrival).await,
            (None, Some(deadline)) => {
                let arrived = tokio::time::timeout_at(deadline.instant(), arrive::<E, L>(arrival));
                arrived.await.unwrap_or(Err(CacheError::Deadline))
            }
        };
        match (landed, consistency) {
            (Err(error), Consistency::Available { max_age }) => {
                self.stale(key, max_age, terms).ok_or(error)
            }
            (landed, _) => landed,
        }
    }

    /// An entry of L1 that is not trusted any more but not known to be wrong either.
    fn stale(&self, key: &E::Key, max_age: Duration, terms: &Terms) -> Option<Lookup<E>> {
        let hash = self.local.hash(self.id, key);
        let slot: Arc<Slot> = self.local.get(self.id, hash, key)?;
        let is_young = slot.fetched_at.elapsed() <= max_age;
        if !is_young || !terms.contain(&slot) || !self.is_current(&slot) {
            return None;
        }
        let value = slot.value::<E>()?;
        Some(Lookup { value, outcome: Outcome::Stale })
    }
}

fn mark_failed(span: &Span) {
    span.record("otel.status_code", "ERROR");
}

impl<E: Entity, L: Loader<E>> Clone for EntityCache<E, L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E: Entity, L: Loader<E>> Debug for EntityCache<E, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntityCache")
            .field("entity", &E::NAME)
            .field("flights", &self.0.flights)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
