//! Metrics of a connection pool, under the names of the OpenTelemetry conventions.
//!
//! Names and units: OpenTelemetry semantic conventions, "Database client metrics".

use std::time::Duration;

use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::{KeyValue, global};

use crate::PoolStats;

/// Bucket boundaries in seconds that the conventions advise for database durations.
pub const SECONDS_BOUNDARIES: [f64; 9] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];

/// The instruments of one connection pool.
///
/// Create it after the meter provider of the process is installed: before
/// that, instruments record nothing.
#[derive(Debug, Clone)]
pub struct PoolMetrics {
    attributes: [KeyValue; 1],
    wait_time: Histogram<f64>,
    use_time: Histogram<f64>,
    create_time: Histogram<f64>,
}

impl PoolMetrics {
    /// Instruments named for the connection pool `name`; `stats` is asked whenever metrics are
    /// collected and returns `None` once the connection pool is gone.
    pub fn new(name: &str, stats: impl Fn() -> Option<PoolStats> + Send + Sync + 'static) -> Self {
        let meter = global::meter("forebay.pooling");
        let pool_name = KeyValue::new("db.client.connection.pool.name", name.to_owned());
        observe(&meter, pool_name.clone(), std::sync::Arc::new(stats));
        Self {
            attributes: [pool_name],
            wait_time: histogram(
                &meter,
                "db.client.connection.wait_time",
                "The time it took to obtain an open connection from the pool.",
            ),
            use_time: histogram(
                &meter,
                "db.client.connection.use_time",
                "The time between borrowing a connection and returning it to the pool.",
            ),
            create_time: histogram(
                &meter,
                "db.client.connection.create_time",
                "The time it took to create a new connection.",
            ),
        }
    }

    /// A caller got a connection after `waited`.
    pub fn waited(&self, waited: Duration) {
        self.wait_time.record(waited.as_secs_f64(), &self.attributes);
    }

    /// A caller gave a connection back after `used`.
    pub fn used(&self, used: Duration) {
        self.use_time.record(used.as_secs_f64(), &self.attributes);
    }

    /// A connection was opened in `took`.
    pub fn created(&self, took: Duration) {
        self.create_time.record(took.as_secs_f64(), &self.attributes);
    }
}

/// Name, unit, description and value of an instrument that is read when metrics are collected.
type Observed<T> = (&'static str, &'static str, &'static str, fn(&PoolStats) -> T);

type Stats = std::sync::Arc<dyn Fn() -> Option<PoolStats> + Send + Sync>;

fn histogram(meter: &Meter, name: &'static str, description: &'static str) -> Histogram<f64> {
    meter
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(SECONDS_BOUNDARIES.to_vec())
        .build()
}

/// Registers the observed instruments. The provider keeps their callbacks, so nothing is returned.
fn observe(meter: &Meter, pool_name: KeyValue, stats: Stats) {
    let state = |state: &'static str| {
        [pool_name.clone(), KeyValue::new("db.client.connection.state", state)]
    };
    let (idle, used) = (state("idle"), state("used"));
    let read = std::sync::Arc::clone(&stats);
    meter
        .i64_observable_up_down_counter("db.client.connection.count")
        .with_unit("{connection}")
        .with_description("Connections that are currently in the state described by the attribute.")
        .with_callback(move |observer| {
            if let Some(stats) = read() {
                let open_in_use = stats.connections.saturating_sub(stats.idle_connections);
                observer.observe(stats.idle_connections.into(), &idle);
                observer.observe(open_in_use.into(), &used);
            }
        })
        .build();

    let gauges: [Observed<u32>; 3] = [
        (
            "db.client.connection.max",
            "{connection}",
            "The maximum number of open connections allowed.",
            |stats| stats.connections_max,
        ),
        (
            "db.client.connection.pending_requests",
            "{request}",
            "The number of current pending requests for an open connection.",
            |stats| stats.waiting,
        ),
        (
            "forebay.client.connection.limbo",
            "{connection}",
            "Connections whose caller went away and which are being cleaned.",
            |stats| stats.limbo_connections,
        ),
    ];
    for (name, unit, description, value) in gauges {
        let read = std::sync::Arc::clone(&stats);
        let attributes = [pool_name.clone()];
        meter
            .i64_observable_up_down_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(stats) = read() {
                    observer.observe(value(&stats).into(), &attributes);
                }
            })
            .build();
    }
    observe_counters(meter, &pool_name, &stats);
}

fn observe_counters(meter: &Meter, pool_name: &KeyValue, stats: &Stats) {
    let counters: [Observed<u64>; 4] = [
        (
            "db.client.connection.timeouts",
            "{timeout}",
            "Connection timeouts that occurred trying to obtain a connection from the pool.",
            |stats| stats.timeouts,
        ),
        (
            "forebay.client.connection.shed",
            "{request}",
            "Requests for a connection refused because the queue was full.",
            |stats| stats.shed,
        ),
        (
            "forebay.client.connection.connect_failures",
            "{attempt}",
            "Attempts to open a connection that failed.",
            |stats| stats.connect_failures,
        ),
        (
            "forebay.client.connection.discarded",
            "{connection}",
            "Connections closed because they could not be cleaned.",
            |stats| stats.discarded,
        ),
    ];
    for (name, unit, description, value) in counters {
        let read = std::sync::Arc::clone(stats);
        let attributes = [pool_name.clone()];
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(stats) = read() {
                    observer.observe(value(&stats), &attributes);
                }
            })
            .build();
    }
}
