//! Loads: how many may be under way at once, and which keys go together.
//!
//! The bulkhead in front of the store. Misses that several batches brought share one statement, so
//! a store that is slow gets larger statements and not more of them.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_config::EntityCacheConfig;
use forebay_pooling::Deadline;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use self::queued::Queued;
use crate::entity_cache::EntityInner;
use crate::reads::behind::Wanted;
use crate::reads::collector::{BATCH_KEYS_MAX, Batch, Collector, Joined, Limits, Passenger};
use crate::{CacheError, Entity, Entry, Loader, Reach};

/// Longest time a load may take, and longest time to wait for one: callers give up by their own
/// deadlines, and this frees the memory of a load that never ends.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What a caller who was refused is told to wait, at least and at most.
const RETRY_AFTER: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(2);

/// What one load brought, for everyone who asked for a part of it.
#[derive(Debug)]
pub(crate) struct Loaded<E: Entity> {
    rows: Found<E>,
}

/// Each key that was looked for, and its row if there is one.
type Found<E> = HashMap<<E as Entity>::Key, Option<Arc<Entry<E>>>>;

/// What a load says of one key.
pub(crate) enum Brought<'a, E: Entity> {
    Row(&'a Arc<Entry<E>>),
    NoRow,
    /// Nobody waited for it any more when the load began.
    NotLoaded,
}

/// The answer to a request for keys.
type Answer<E, L> = Result<Arc<Loaded<E>>, CacheError<<L as Loader<E>>::Error>>;

/// The loads of one entity.
#[derive(Debug)]
pub(crate) struct Loads<E: Entity, L: Loader<E>> {
    collector: Arc<Collector<Request<E, L>>>,
    under_way_max: usize,
    /// How long a load took of late, whatever came of it.
    took: Usual,
    /// How long a load took of late that was answered.
    answered: Usual,
    /// When those under way began, in that order.
    begun: Mutex<BTreeMap<u64, Instant>>,
}

/// A running mean of durations, in which the last one counts for an eighth.
#[derive(Debug, Default)]
struct Usual(AtomicU64);

/// Keys that somebody wants.
#[derive(Debug)]
struct Request<E: Entity, L: Loader<E>> {
    /// Less those that nobody wants any more.
    keys: Vec<Option<E::Key>>,
    /// From the server that takes writes.
    newest: bool,
    answer: oneshot::Sender<Answer<E, L>>,
    span: Span,
}

impl<E: Entity, L: Loader<E>> Passenger for Request<E, L> {
    fn keys(&self) -> usize {
        self.keys.iter().flatten().count()
    }
}

impl<E: Entity> Loaded<E> {
    /// The same with the rows of some keys from another load.
    pub(crate) fn replaced<'a>(
        &self,
        keys: impl Iterator<Item = &'a E::Key>,
        newer: &Self,
    ) -> Self {
        let mut rows = self.rows.clone();
        for key in keys {
            match newer.rows.get(key) {
                Some(row) => drop(rows.insert(key.clone(), row.clone())),
                None => drop(rows.remove(key)),
            }
        }
        Self { rows }
    }

    pub(crate) fn get(&self, key: &E::Key) -> Brought<'_, E> {
        match self.rows.get(key) {
            Some(Some(row)) => Brought::Row(row),
            Some(None) => Brought::NoRow,
            None => Brought::NotLoaded,
        }
    }
}

impl<E: Entity, L: Loader<E>> Loads<E, L> {
    pub(crate) fn new(config: &EntityCacheConfig) -> Self {
        Self {
            collector: Collector::new(Limits {
                batch_keys_max: keys_max::<E>(),
                under_way_max: config.loads_max,
                waiting_keys_max: config.loads_waiting_keys_max,
            }),
            under_way_max: config.loads_max,
            took: Usual::default(),
            answered: Usual::default(),
            begun: Mutex::default(),
        }
    }

    /// Loads under way, and keys that wait for one.
    pub(crate) fn usage(&self) -> (usize, usize) {
        self.collector.usage()
    }

    /// Why a request is refused now, with the time in which those who wait should be served.
    pub(crate) fn overloaded(&self) -> CacheError<L::Error> {
        let (_, waiting_keys) = self.usage();
        let rounds = waiting_keys.div_ceil(keys_max::<E>()).div_ceil(self.under_way_max) + 1;
        let forecast = self.took.get().saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX));
        let retry_after = forecast.clamp(*RETRY_AFTER.start(), *RETRY_AFTER.end());
        CacheError::Overloaded { waiting_keys, retry_after }
    }

    /// How long a load usually takes that is answered; zero before the first.
    pub(crate) fn usual(&self) -> Duration {
        self.answered.get()
    }

    /// Since when the oldest load is under way.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.begun.lock().first_key_value().map(|(_, begun_at)| begun_at.elapsed())
    }

    fn begin(&self) -> Begun<'_> {
        let mut begun = self.begun.lock();
        // Those that began before are in the map or ended, so a number is free again only then.
        let number = begun.last_key_value().map_or(0, |(number, _)| number + 1);
        let begun_at = Instant::now();
        begun.insert(number, begun_at);
        Begun { begun: &self.begun, number, begun_at }
    }
}

/// A load under way, until it ends in whatever way.
struct Begun<'a> {
    begun: &'a Mutex<BTreeMap<u64, Instant>>,
    number: u64,
    begun_at: Instant,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.begun.lock().remove(&self.number);
    }
}

impl Usual {
    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let usual = self.0.load(Ordering::Relaxed);
        let next = if usual == 0 { nanos } else { usual - usual / 8 + nanos / 8 };
        self.0.store(next, Ordering::Relaxed);
    }
}

/// Keys of one load. Each page of a list is a statement of its own, and none need wait for another.
fn keys_max<E: Entity>() -> usize {
    match E::REACH {
        Reach::Key => BATCH_KEYS_MAX,
        Reach::Collection => 1,
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// Reads keys from the store, with others if many are asked for now. Those that nobody waits for
    /// any more before the load begins are not read.
    pub(crate) async fn load(
        self: &Arc<Self>,
        wanted: &[&Wanted<E, L>],
        newest: bool,
    ) -> Answer<E, L> {
        let (answer, answered) = oneshot::channel();
        let keys = wanted.iter().map(|wanted| Some(wanted.key.clone())).collect();
        let request = Request { keys, newest, answer, span: Span::current() };
        let collector = &self.loads.collector;
        let request = match collector.depart_alone(request) {
            Ok(batch) => {
                Arc::clone(self).run(batch).await;
                return answered.await.unwrap_or(Err(CacheError::LoaderPanicked));
            }
            Err(request) => request,
        };
        let number = match collector.join(request) {
            Joined::Waiting(number) => number,
            Joined::Conducts(number) => {
                tokio::spawn(Arc::clone(self).conduct_loads());
                number
            }
            Joined::Refused(_) => {
                self.cache.metrics.load_refused(E::NAME);
                return Err(self.loads.overloaded());
            }
        };
        let answer = Queued::new(collector, number, wanted).answer(answered);
        match tokio::time::timeout(LOAD_TIMEOUT, answer).await {
            Err(_elapsed) => Err(CacheError::Deadline),
            Ok(None) => Ok(Arc::new(Loaded { rows: HashMap::new() })),
            Ok(Some(answer)) => answer,
        }
    }

    async fn conduct_loads(self: Arc<Self>) {
        while let Some((batch, is_last)) = self.loads.collector.next().await {
            let span = batch.passengers.first().map_or_else(Span::none, |first| first.span.clone());
            let load = Arc::clone(&self).run(batch).instrument(span);
            if is_last {
                return load.await;
            }
            tokio::spawn(load);
        }
    }

    /// Runs one load and hands everybody his answer.
    async fn run(self: Arc<Self>, batch: Batch<Request<E, L>>) {
        let Batch { passengers, ride } = batch;
        // Two requests may want one key, when one of them wanted it fresher.
        let mut rows = HashMap::with_capacity(passengers.iter().map(Passenger::keys).sum());
        let keys = passengers.iter().flat_map(|request| request.keys.iter().flatten());
        rows.extend(keys.map(|key| (key.clone(), None)));
        let begun = self.loads.begin();
        let newest = passengers.iter().any(|request| request.newest);
        let answer = self.ask_loader(rows, newest).await;
        let took = begun.begun_at.elapsed();
        drop(begun);
        self.loads.took.add(took);
        if answer.is_ok() {
            self.loads.answered.add(took);
        }
        // Whoever is answered finds the place free that his load had.
        drop(ride);
        for request in passengers {
            // A caller that is gone needs no answer.
            drop(request.answer.send(answer.clone()));
        }
    }

    async fn ask_loader(&self, mut rows: Found<E>, newest: bool) -> Answer<E, L> {
        let keys: Vec<_> = rows.keys().cloned().collect();
        self.cache.metrics.loading(E::NAME, keys.len());
        // The loader runs inside a function of its own future, so a panic before its first await
        // is caught as well.
        let load = async {
            if newest {
                self.loader.load_newest(keys).await
            } else {
                self.loader.load_many(keys).await
            }
        };
        let load = AssertUnwindSafe(Deadline::after(LOAD_TIMEOUT).scope(load)).catch_unwind();
        let found = match tokio::time::timeout(LOAD_TIMEOUT, load).await {
            Err(_elapsed) => return Err(CacheError::Deadline),
            Ok(Err(_panic)) => return Err(CacheError::LoaderPanicked),
            Ok(Ok(Err(error))) => return Err(CacheError::Load(Arc::new(error))),
            Ok(Ok(Ok(found))) => found,
        };
        rows.extend(found.into_iter().map(|(key, value)| {
            let (encoded, version) = (E::encode(&value), E::version(&value));
            (key, Some(Arc::new(Entry { value, encoded, version })))
        }));
        Ok(Arc::new(Loaded { rows }))
    }
}

mod queued;
