//! The client span and the duration metric of a command.
//!
//! Names: OpenTelemetry semantic conventions, "Redis client operations".

use std::time::Duration;

use forebay_pooling::SECONDS_BOUNDARIES;
use opentelemetry::metrics::Histogram;
use opentelemetry::{KeyValue, global};
use tracing::{Span, field};

use crate::RedisError;
use crate::address::Address;

/// A span for `operation`, a child of the current one. `batch` is the number of commands of a
/// pipeline, `script` the name of a script.
pub(crate) fn of(
    operation: &'static str,
    address: &Address,
    batch: Option<usize>,
    script: Option<&'static str>,
) -> Span {
    let span = tracing::info_span!(
        "redis",
        otel.name = operation,
        otel.kind = "client",
        otel.status_code = field::Empty,
        db.system.name = "redis",
        db.operation.name = operation,
        db.operation.batch.size = field::Empty,
        db.stored_procedure.name = field::Empty,
        db.namespace = address.database.as_str(),
        db.response.status_code = field::Empty,
        server.address = address.host.as_str(),
        server.port = address.port,
        error.type = field::Empty,
    );
    if let Some(size) = batch {
        span.record("db.operation.batch.size", size);
    }
    if let Some(name) = script {
        span.record("db.stored_procedure.name", name);
    }
    span
}

/// Marks the span as failed.
pub(crate) fn failed(span: &Span, error: &RedisError) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", error.kind());
    if let RedisError::Server { code, .. } = error {
        span.record("db.response.status_code", code.as_str());
    }
}

/// The duration of commands.
#[derive(Debug, Clone)]
pub(crate) struct Durations(Histogram<f64>);

impl Durations {
    pub(crate) fn new() -> Self {
        let histogram = global::meter("forebay.redis")
            .f64_histogram("db.client.operation.duration")
            .with_unit("s")
            .with_description("Duration of database client operations.")
            .with_boundaries(SECONDS_BOUNDARIES.to_vec())
            .build();
        Self(histogram)
    }

    pub(crate) fn record(
        &self,
        operation: &'static str,
        took: Duration,
        error: Option<&RedisError>,
    ) {
        let system = KeyValue::new("db.system.name", "redis");
        let name = KeyValue::new("db.operation.name", operation);
        match error {
            None => self.0.record(took.as_secs_f64(), &[system, name]),
            Some(error) => {
                let kind = KeyValue::new("error.type", error.kind());
                self.0.record(took.as_secs_f64(), &[system, name, kind]);
            }
        }
    }
}
