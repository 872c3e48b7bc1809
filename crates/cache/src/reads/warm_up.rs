//! Warm-up: a process that starts reads what others read often, before it serves.
//!
//! Each process adds the keys that it reads most to a list in Redis, every few seconds and once more
//! when it ends. One that starts reads the list, and then those keys as anybody would: most of them
//! from L2, the others from the store in batches. So the list is a hint, and nothing that is promised
//! rests on it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use crate::cache::{CacheInner, Entities};
use crate::entity_cache::EntityInner;
use crate::l2::remote::Remote;
use crate::operators::inspect::AnyEntity;
use crate::{Cache, Consistency, Entity, EntityCache, Loader, Outcome, Reach};

/// How often a process says what it reads most.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Keys that are read with one batch, so that the hottest are there when time runs out.
const BATCH_KEYS_MAX: usize = 256;

/// What a process has in memory before it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// Keys of all entities that are in memory now.
    pub keys: usize,
    /// Those that had to be read from the store.
    pub loaded: usize,
    /// How it ended.
    pub end: WarmUpEnd,
}

/// How a warm-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmUpEnd {
    /// All keys of the list were read.
    Complete,
    /// By the settings there is none.
    Off,
    /// Time was over, for example because Redis is away.
    TimedOut,
    /// A store failed.
    Failed,
}

impl WarmUpEnd {
    /// As it appears in metrics and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Off => "off",
            Self::TimedOut => "timed_out",
            Self::Failed => "failed",
        }
    }
}

/// What came of reading some keys.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Warmed {
    pub(crate) keys: usize,
    pub(crate) loaded: usize,
    pub(crate) failed: bool,
}

impl Cache {
    /// Reads into memory what other processes, or this one before it ended, have read most. To be
    /// called once, after all entities were added and before the process says that it serves.
    ///
    /// Never fails, and takes no longer than `warm_up_timeout`, whatever becomes of the stores.
    pub async fn warm_up(&self) -> WarmUp {
        let (inner, began_at) = (&self.0, Instant::now());
        if inner.config.warm_up_keys == 0 {
            return WarmUp { keys: 0, loaded: 0, end: WarmUpEnd::Off };
        }
        let warmed = Mutex::new(Warmed::default());
        let all = tokio::time::timeout(inner.config.warm_up_timeout, inner.warm_all(&warmed));
        let is_in_time = all.await.is_ok();
        let Warmed { keys, loaded, failed } = *warmed.lock();
        let end = match (is_in_time, failed) {
            (false, _) => WarmUpEnd::TimedOut,
            (true, true) => WarmUpEnd::Failed,
            (true, false) => WarmUpEnd::Complete,
        };
        inner.metrics.warmed_up(end.as_str(), keys);
        let (took, end_text) = (began_at.elapsed(), end.as_str());
        tracing::info!(keys, loaded, ?took, end = end_text, "the cache has what is read most");
        WarmUp { keys, loaded, end }
    }

    /// Tells Redis what this process reads most.
    pub(crate) async fn tell_heat(&self) {
        tell_heat(&self.0.entities, &self.0.remote, self.0.config.warm_up_keys).await;
    }
}

impl CacheInner {
    async fn warm_all(&self, warmed: &Mutex<Warmed>) {
        // Before that, L2 would be left out, and every key be read from the store.
        self.dataset.trusted().await;
        for entity in named(&self.entities) {
            let Some(space) = entity.space() else { continue };
            let hottest = match self.remote.hottest(space, self.config.warm_up_keys).await {
                Ok(hottest) => hottest,
                Err(error) => {
                    tracing::debug!(error = %error, "nobody knows which keys are read most");
                    warmed.lock().failed = true;
                    continue;
                }
            };
            for keys in hottest.chunks(BATCH_KEYS_MAX) {
                let one = entity.warm_up(keys.to_vec()).await;
                let mut all = warmed.lock();
                all.keys += one.keys;
                all.loaded += one.loaded;
                all.failed |= one.failed;
            }
        }
    }
}

/// Tells Redis again and again what this process reads most. Ends only if no list is to be kept.
pub(crate) async fn run(entities: Entities, remote: Arc<Remote>, keys: usize) {
    if keys == 0 {
        return;
    }
    let mut ticks = tokio::time::interval(TOLD_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        tell_heat(&entities, &remote, keys).await;
    }
}

async fn tell_heat(entities: &Entities, remote: &Remote, keys: usize) {
    for entity in named(entities) {
        let hottest = entity.hottest(keys);
        if let Some(space) = entity.space().filter(|_| !hottest.is_empty()) {
            remote.heat(space, keys, &hottest).await;
        }
    }
}

fn named(entities: &Entities) -> Vec<Arc<dyn AnyEntity>> {
    entities.read().iter().map(Arc::clone).collect()
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// The keys that have a row and are read most, as text.
    pub(crate) fn hottest(&self, count: usize) -> Vec<(u32, String)> {
        // A page is as old as the last change of its table: nobody knows whether it will be wanted.
        if E::REACH == Reach::Collection {
            return Vec::new();
        }
        let hottest = self.local.seats().hottest(self.id, count).into_iter();
        let rows = hottest.filter(|(_, slot)| !slot.is_negative());
        rows.filter_map(|(reads, slot)| Some((reads, E::key_text(slot.key()?)))).collect()
    }

    /// Reads keys, so that L1 has them.
    pub(crate) async fn warm_up(self: &Arc<Self>, key_texts: &[String]) -> Warmed {
        let keys: Vec<_> = key_texts.iter().filter_map(|text| E::parse_key(text)).collect();
        let bound = Consistency::Bounded(self.cache.progress.staleness_max());
        match EntityCache::of(Arc::clone(self)).get_many(&keys, bound).await {
            Ok(lookups) => {
                // Whoever waits for a batch is told before L1 is filled.
                for key in &keys {
                    while self.flights.is_under_way(self.local.hash(self.id, key)) {
                        tokio::task::yield_now().await;
                    }
                }
                let is_loaded = |outcome| matches!(outcome, Outcome::Loaded | Outcome::Absent);
                let loaded = lookups.iter().filter(|lookup| is_loaded(lookup.outcome)).count();
                Warmed { keys: lookups.len(), loaded, failed: false }
            }
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "keys that are read often could not be read");
                Warmed { failed: true, ..Warmed::default() }
            }
        }
    }
}
