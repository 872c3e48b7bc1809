//! The meter provider and the registry it is read through.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, SdkMeterProvider, Stream,
};
use prometheus::Registry;

use crate::error::TelemetryError;
use crate::queue::SpanQueue;

/// Bucket bounds of histograms in seconds. The SDK's own bounds are meant for
/// milliseconds and would put every call into the first bucket; an L1 hit takes
/// less than a tenth of a millisecond.
const SECONDS_BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A meter provider whose metrics are read through the registry.
pub(crate) fn provider(
    resource: Resource,
    queue: &Arc<SpanQueue>,
) -> Result<(SdkMeterProvider, Registry), TelemetryError> {
    let registry = Registry::new();
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .build()
        .map_err(|source| TelemetryError::Metrics { source })?;
    let provider = SdkMeterProvider::builder()
        .with_resource(resource)
        .with_reader(reader)
        .with_view(seconds)
        .build();
    observe_export(&provider, queue);
    Ok((provider, registry))
}

/// Gives histograms in seconds bounds that fit.
fn seconds(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram || instrument.unit() != "s" {
        return None;
    }
    let aggregation = Aggregation::ExplicitBucketHistogram {
        boundaries: SECONDS_BOUNDS.to_vec(),
        record_min_max: false,
    };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

/// The export observes itself, under the names OpenTelemetry gives to SDK metrics.
fn observe_export(provider: &SdkMeterProvider, queue: &Arc<SpanQueue>) {
    let meter = provider.meter("forebay.telemetry");
    let processed = Arc::clone(queue);
    meter
        .u64_observable_counter("otel.sdk.processor.span.processed")
        .with_description("Spans not handed to the exporter, by reason")
        .with_callback(move |observer| {
            let full = KeyValue::new("error.type", "queue_full");
            observer.observe(processed.dropped.load(Ordering::Relaxed), &[full]);
        })
        .build();
    let exported = Arc::clone(queue);
    meter
        .u64_observable_counter("otel.sdk.exporter.span.exported")
        .with_description("Spans the collector took, and with error.type those it did not")
        .with_callback(move |observer| {
            observer.observe(exported.exported.load(Ordering::Relaxed), &[]);
            let refused = KeyValue::new("error.type", "rejected");
            observer.observe(exported.lost.load(Ordering::Relaxed), &[refused]);
        })
        .build();
}

#[cfg(test)]
mod tests;
