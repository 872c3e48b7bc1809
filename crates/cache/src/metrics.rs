//! What the cache counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Meter};
use opentelemetry::{KeyValue, global};

use crate::operators::tally::Tally;

pub(crate) use outcomes::Outcomes;

mod outcomes;

/// Instruments of one cache.
#[derive(Debug)]
pub(crate) struct Metrics {
    meter: Meter,
    l2_errors: Counter<u64>,
    fills: Counter<u64>,
    invalidations: Counter<u64>,
    loads: Counter<u64>,
    keys_loaded: Counter<u64>,
    loads_refused: Counter<u64>,
    refreshes: Counter<u64>,
    warm_ups: Counter<u64>,
    keys_warmed: Counter<u64>,
    /// What some of the instruments were told, for operators: an instrument cannot be read.
    l2_failures: AtomicU64,
    fills_told: Tally,
    invalidations_told: Tally,
    verified: Counter<u64>,
    verified_told: Tally,
    tail_changes: Counter<u64>,
    tail_failures: Counter<u64>,
    tail_failures_told: AtomicU64,
    forgotten_told: Tally,
    forgotten: Counter<u64>,
    synchronisations: Counter<u64>,
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let meter = global::meter("forebay.cache");
        let counter = |name: &'static str, description: &'static str| {
            meter.u64_counter(name).with_description(description).build()
        };
        Arc::new(Self {
            l2_errors: counter("forebay.cache.l2.errors", "Failed operations on Redis."),
            fills: counter("forebay.cache.l2.fills", "Fills of Redis by what became of them."),
            invalidations: counter(
                "forebay.cache.invalidations",
                "Invalidated keys: written here, announced by a replica, or found in the outbox.",
            ),
            tail_changes: counter("forebay.cache.tail.changes", "Changes read from the outbox."),
            tail_failures: counter(
                "forebay.cache.tail.failures",
                "Questions to the outbox without an answer.",
            ),
            synchronisations: counter(
                "forebay.cache.l2.synchronisations",
                "How often it was made sure that Redis knows every change.",
            ),
            forgotten: counter(
                "forebay.cache.forgotten",
                "How often everything, or all of Redis, was forgotten, because nobody could say what \
                 had changed.",
            ),
            loads: counter("forebay.cache.loads", "Statements that read what no level held."),
            keys_loaded: counter("forebay.cache.loads.keys", "Keys that those asked for."),
            loads_refused: counter(
                "forebay.cache.loads.refused",
                "Requests for a load that were refused because too many waited.",
            ),
            refreshes: counter(
                "forebay.cache.refreshes",
                "Entries that were read again before they expired, by what became of it.",
            ),
            warm_ups: counter(
                "forebay.cache.warm_ups",
                "Starts of a process by how warm it became.",
            ),
            keys_warmed: counter(
                "forebay.cache.warm_ups.keys",
                "Keys that were read into memory because others read them often.",
            ),
            l2_failures: AtomicU64::new(0),
            fills_told: Tally::default(),
            invalidations_told: Tally::default(),
            verified: counter(
                "forebay.cache.verified",
                "Hits that were checked against Postgres, by what came of it.",
            ),
            verified_told: Tally::default(),
            tail_failures_told: AtomicU64::new(0),
            forgotten_told: Tally::default(),
            meter,
        })
    }

    pub(crate) fn l2_failed(&self, operation: &'static str, error: &'static str) {
        self.l2_failures.fetch_add(1, Ordering::Relaxed);
        let operation = KeyValue::new("forebay.cache.operation", operation);
        self.l2_errors.add(1, &[operation, KeyValue::new("error.type", error)]);
    }

    pub(crate) fn filled(&self, entity: &'static str, result: &'static str) {
        self.fills_told.add(entity, result, 1);
        let entity = KeyValue::new("forebay.cache.entity", entity);
        self.fills.add(1, &[entity, KeyValue::new("forebay.cache.result", result)]);
    }

    pub(crate) fn invalidated(&self, entity: &'static str, origin: &'static str, keys: usize) {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        self.invalidations_told.add(entity, origin, keys);
        let entity = KeyValue::new("forebay.cache.entity", entity);
        let origin = KeyValue::new("forebay.cache.origin", origin);
        self.invalidations.add(keys, &[entity, origin]);
    }

    pub(crate) fn verified(&self, entity: &'static str, result: &'static str) {
        self.verified_told.add(entity, result, 1);
        let entity = KeyValue::new("forebay.cache.entity", entity);
        self.verified.add(1, &[entity, KeyValue::new("forebay.cache.result", result)]);
    }

    /// Checked hits of an entity by result.
    pub(crate) fn checks(&self, entity: &'static str) -> Vec<(&'static str, u64)> {
        self.verified_told.of(entity)
    }

    pub(crate) fn l2_failures(&self) -> u64 {
        self.l2_failures.load(Ordering::Relaxed)
    }

    /// Fills of an entity by result.
    pub(crate) fn fills(&self, entity: &'static str) -> Vec<(&'static str, u64)> {
        self.fills_told.of(entity)
    }

    /// Invalidated keys of an entity by origin.
    pub(crate) fn invalidations(&self, entity: &'static str) -> Vec<(&'static str, u64)> {
        self.invalidations_told.of(entity)
    }

    pub(crate) fn loading(&self, entity: &'static str, keys: usize) {
        let entity = [KeyValue::new("forebay.cache.entity", entity)];
        self.loads.add(1, &entity);
        self.keys_loaded.add(u64::try_from(keys).unwrap_or(u64::MAX), &entity);
    }

    pub(crate) fn load_refused(&self, entity: &'static str) {
        self.loads_refused.add(1, &[KeyValue::new("forebay.cache.entity", entity)]);
    }

    pub(crate) fn refreshed(&self, entity: &'static str, result: &'static str) {
        let entity = KeyValue::new("forebay.cache.entity", entity);
        self.refreshes.add(1, &[entity, KeyValue::new("forebay.cache.result", result)]);
    }

    pub(crate) fn warmed_up(&self, result: &'static str, keys: usize) {
        self.warm_ups.add(1, &[KeyValue::new("forebay.cache.result", result)]);
        self.keys_warmed.add(u64::try_from(keys).unwrap_or(u64::MAX), &[]);
    }

    pub(crate) fn tail_read(&self, changes: usize) {
        self.tail_changes.add(u64::try_from(changes).unwrap_or(u64::MAX), &[]);
    }

    pub(crate) fn tail_failed(&self) {
        self.tail_failures_told.fetch_add(1, Ordering::Relaxed);
        self.tail_failures.add(1, &[]);
    }

    pub(crate) fn synchronized(&self) {
        self.synchronisations.add(1, &[]);
    }

    /// Questions to the outbox without an answer.
    pub(crate) fn tail_failures(&self) -> u64 {
        self.tail_failures_told.load(Ordering::Relaxed)
    }

    pub(crate) fn forgot(&self, what: Forgotten, reason: &'static str) {
        self.forgotten_told.add(what.as_str(), reason, 1);
        let what = KeyValue::new("forebay.cache.level", what.as_str());
        self.forgotten.add(1, &[what, KeyValue::new("forebay.cache.reason", reason)]);
    }

    /// How often that was forgotten, by reason.
    pub(crate) fn forgotten(&self, what: Forgotten) -> Vec<(&'static str, u64)> {
        self.forgotten_told.of(what.as_str())
    }

    /// Registers a gauge. The provider keeps the callback; `read` gives `None` once the cache is
    /// gone.
    pub(crate) fn gauge(
        &self,
        name: &'static str,
        description: &'static str,
        entity: Option<&'static str>,
        read: impl Fn() -> Option<u64> + Send + Sync + 'static,
    ) {
        let entity = entity.map(|entity| KeyValue::new("forebay.cache.entity", entity));
        self.meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, entity.as_slice());
                }
            })
            .build();
    }
}

/// What was given up because nobody could say what of it was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forgotten {
    /// Both levels.
    Everything,
    /// What Redis holds, of one entity at least.
    L2,
}

impl Forgotten {
    fn as_str(self) -> &'static str {
        match self {
            Self::Everything => "everything",
            Self::L2 => "l2",
        }
    }
}
