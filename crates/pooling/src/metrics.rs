//! Metrics of a connection pool, under the names of the OpenTelemetry conventions.
//!
//! Names and units: OpenTelemetry semantic conventions, "Database client
//! metrics". What they do not know is under `forebay.client.connection`.

use std::time::Duration;

use opentelemetry::metrics::{Histogram, Meter};
use opentelemetry::{KeyValue, global};

use crate::PoolStats;

mod observed;

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
    validate_time: Histogram<f64>,
}

impl PoolMetrics {
    /// Instruments named for the connection pool `name`; `stats` is asked whenever metrics are
    /// collected and returns `None` once the connection pool is gone.
    pub fn new(name: &str, stats: impl Fn() -> Option<PoolStats> + Send + Sync + 'static) -> Self {
        let meter = global::meter("forebay.pooling");
        let pool_name = KeyValue::new("db.client.connection.pool.name", name.to_owned());
        observed::register(&meter, &pool_name, &observed::shared(stats));
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
            validate_time: histogram(
                &meter,
                "forebay.client.connection.validate_time",
                "The time it took to check that a connection still answers.",
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

    /// A connection was checked in `took`, whatever came of it.
    pub fn validated(&self, took: Duration) {
        self.validate_time.record(took.as_secs_f64(), &self.attributes);
    }
}

fn histogram(meter: &Meter, name: &'static str, description: &'static str) -> Histogram<f64> {
    meter
        .f64_histogram(name)
        .with_unit("s")
        .with_description(description)
        .with_boundaries(SECONDS_BOUNDARIES.to_vec())
        .build()
}
