//! How often reads of one entity ended in which way.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use opentelemetry::KeyValue;

use super::Metrics;
use crate::Outcome;

/// All outcomes, in the order in which they are counted.
const OUTCOMES: [Outcome; 7] = [
    Outcome::HitL1,
    Outcome::HitL2,
    Outcome::Loaded,
    Outcome::NegativeL1,
    Outcome::NegativeL2,
    Outcome::Absent,
    Outcome::Stale,
];
/// Threads count in places of their own, so that they do not wait for each other's processor. More
/// threads than this share places.
const SHARDS: usize = 16;

/// Outcomes of one entity. A hit costs one atomic addition; the provider reads when it collects.
#[derive(Debug, Default)]
pub(crate) struct Outcomes([Shard; SHARDS]);

/// Counts of some threads. Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard([AtomicU64; OUTCOMES.len()]);

impl Outcomes {
    pub(crate) fn registered(entity: &'static str, metrics: &Metrics) -> Arc<Self> {
        let outcomes = Arc::new(Self::default());
        let weak = Arc::downgrade(&outcomes);
        metrics
            .meter
            .u64_observable_counter("forebay.cache.lookups")
            .with_description("Reads of the cache by outcome.")
            .with_callback(move |observer| {
                let Some(outcomes) = weak.upgrade() else {
                    return;
                };
                for (outcome, count) in outcomes.counts() {
                    let entity = KeyValue::new("forebay.cache.entity", entity);
                    let outcome = KeyValue::new("forebay.cache.outcome", outcome.as_str());
                    observer.observe(count, &[entity, outcome]);
                }
            })
            .build();
        outcomes
    }

    /// Counts a read. How many reads of this thread, and of those that share its place, ended so
    /// before.
    pub(crate) fn count(&self, outcome: Outcome) -> u64 {
        self.0[shard()].0[place(outcome)].fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> Vec<(Outcome, u64)> {
        let count = |outcome| -> u64 {
            let counts = self.0.iter().map(|shard| &shard.0[place(outcome)]);
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        OUTCOMES.into_iter().map(|outcome| (outcome, count(outcome))).collect()
    }
}

/// Its place in [`OUTCOMES`].
fn place(outcome: Outcome) -> usize {
    match outcome {
        Outcome::HitL1 => 0,
        Outcome::HitL2 => 1,
        Outcome::Loaded => 2,
        Outcome::NegativeL1 => 3,
        Outcome::NegativeL2 => 4,
        Outcome::Absent => 5,
        Outcome::Stale => 6,
    }
}

/// Where this thread counts.
fn shard() -> usize {
    const NONE: usize = usize::MAX;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(NONE) };
    }
    SHARD.with(|shard| {
        if shard.get() == NONE {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_are_added_up() {
        let outcomes = Arc::new(Outcomes::default());
        let threads = (0..2 * SHARDS).map(|_| {
            let outcomes = Arc::clone(&outcomes);
            std::thread::spawn(move || {
                for outcome in OUTCOMES {
                    outcomes.count(outcome);
                    outcomes.count(Outcome::HitL2);
                }
            })
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().expect("counts"));
        for (outcome, count) in outcomes.counts() {
            let expected = if outcome == Outcome::HitL2 { 16 * SHARDS } else { 2 * SHARDS };
            assert_eq!(usize::try_from(count), Ok(expected), "{outcome}");
        }
        assert!(OUTCOMES.iter().enumerate().all(|(at, outcome)| place(*outcome) == at));
    }
}
