//! How large batches are and who waits for them.

use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};

use super::PointReadsStats;

/// Boundaries of batch sizes, in keys.
const KEYS_BOUNDARIES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The instruments of one `PointReads`.
pub(super) struct Metrics {
    attributes: [KeyValue; 1],
    keys: Histogram<u64>,
}

impl Metrics {
    /// `stats` is asked whenever metrics are collected; `None` once the reads are gone.
    pub(super) fn new(
        summary: &'static str,
        stats: impl Fn() -> Option<PointReadsStats> + Send + Sync + 'static,
    ) -> Self {
        let meter = global::meter("forebay.postgres");
        let attributes = [KeyValue::new("db.query.summary", summary)];
        let keys = meter
            .u64_histogram("forebay.postgres.point_reads.batch.keys")
            .with_unit("{key}")
            .with_description("Keys looked up by one batch.")
            .with_boundaries(KEYS_BOUNDARIES.to_vec())
            .build();
        let observed = attributes.clone();
        meter
            .u64_observable_gauge("forebay.postgres.point_reads.waiting")
            .with_unit("{request}")
            .with_description("Callers that wait for their batch to depart.")
            .with_callback(move |observer| {
                if let Some(stats) = stats() {
                    let waiting = u64::try_from(stats.waiting).unwrap_or(u64::MAX);
                    observer.observe(waiting, &observed);
                }
            })
            .build();
        Self { attributes, keys }
    }

    /// Counts a batch of `keys` keys.
    pub(super) fn departs(&self, keys: usize) {
        self.keys.record(u64::try_from(keys).unwrap_or(u64::MAX), &self.attributes);
    }
}
