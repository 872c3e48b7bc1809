//! How deep the pipeline is.

use std::sync::Arc;

use opentelemetry::{KeyValue, global};

use super::PipelineStats;

/// Registers the instruments of the connection pool `name`; `stats` is asked whenever metrics are
/// collected.
pub(super) fn observe(
    name: &'static str,
    stats: impl Fn() -> Option<PipelineStats> + Send + Sync + 'static,
) {
    type Read = fn(&PipelineStats) -> usize;
    let gauges: [(&str, &str, &str, Read); 3] = [
        (
            "forebay.postgres.pipeline.in_flight",
            "{statement}",
            "Statements sent on shared connections and not answered.",
            |stats| stats.in_flight,
        ),
        (
            "forebay.postgres.pipeline.waiting",
            "{statement}",
            "Statements that wait for room on a shared connection.",
            |stats| stats.waiting,
        ),
        (
            "forebay.postgres.pipeline.connections",
            "{connection}",
            "Connections that are shared among statements.",
            |stats| stats.pipes,
        ),
    ];
    let stats = Arc::new(stats);
    let pool_name = KeyValue::new("db.client.connection.pool.name", name);
    for (name, unit, description, value) in gauges {
        let stats = Arc::clone(&stats);
        let attributes = [pool_name.clone()];
        global::meter("forebay.postgres")
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(stats) = stats() {
                    let value = u64::try_from(value(&stats)).unwrap_or(u64::MAX);
                    observer.observe(value, &attributes);
                }
            })
            .build();
    }
}
