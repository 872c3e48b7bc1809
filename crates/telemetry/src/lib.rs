//! Traces, metrics and logs: one start, one flush.
//!
//! [`init`] installs them for the whole process and gives back [`Telemetry`], whose
//! [`Telemetry::flush`] is the last thing a process does.
//!
//! - **Traces.** Spans of `tracing` at INFO and above become OpenTelemetry spans and go
//!   out over OTLP gRPC in batches. Waiting spans are bounded; more are dropped and
//!   counted. The export runs on a thread and a runtime of its own: it cannot slow the
//!   service down, it outlives the service's runtime, and nothing it does is traced.
//! - **Logs.** One line an event on stderr, as text or JSON, with the trace and span id
//!   of the span the event happened in. The filter can be changed while running.
//! - **Metrics.** Recorded through the OpenTelemetry API anywhere and rendered by
//!   [`Handle::render`] in the OpenMetrics text format.
//!
//! A collector that is away costs spans and two log lines, one when export begins to
//! fail and one when it works again; it never blocks a caller or holds up the exit
//! beyond the timeout given to the flush.

pub use error::{FlushError, TelemetryError};
pub use handle::{Exposition, Handle};

mod error;
mod export;
mod exposition;
mod filter;
mod handle;
mod logs;
mod metrics;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use forebay_config::TelemetryConfig;
use opentelemetry::trace::TracerProvider;
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Dispatch;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::export::Exporting;
use crate::queue::{Enqueue, SpanQueue};

/// Traces, metrics and logs of this process. Keep it until the end of the process.
#[derive(Debug)]
pub struct Telemetry {
    exporting: Option<Exporting>,
    handle: Handle,
    meters: opentelemetry_sdk::metrics::SdkMeterProvider,
    tracers: SdkTracerProvider,
}

/// Starts telemetry and installs it for the whole process: subscriber, W3C propagator,
/// tracer and meter provider. Call it once, before the first instrument is created.
///
/// # Errors
/// When the log filter or the endpoint is not usable, or something is installed already.
pub fn init(config: &TelemetryConfig, service: &'static str) -> Result<Telemetry, TelemetryError> {
    let (telemetry, dispatch) = build(config, service)?;
    dispatch.try_init().map_err(|source| TelemetryError::Installed { source })?;
    global::set_text_map_propagator(TraceContextPropagator::new());
    // For instrumentation that makes its spans with the OpenTelemetry API itself.
    global::set_tracer_provider(telemetry.tracers.clone());
    global::set_meter_provider(telemetry.meters.clone());
    Ok(telemetry)
}

/// Starts telemetry without installing it: the caller decides where the dispatch applies.
///
/// # Errors
/// When the log filter or the endpoint is not usable.
pub fn build(
    config: &TelemetryConfig,
    service: &'static str,
) -> Result<(Telemetry, Dispatch), TelemetryError> {
    let resource = resource(service);
    let (log_filter, log_filter_control) = filter::logs(&config.log_filter)?;
    let queue = Arc::new(SpanQueue::new(config.span_queue_max));
    let exporting = match &config.otlp_endpoint {
        Some(endpoint) => Some(export::start(endpoint, &resource, Arc::clone(&queue))?),
        None => None,
    };
    // Without a collector we start no recorded trace, but we pass a caller's trace on.
    let root = match &exporting {
        Some(_) => Sampler::TraceIdRatioBased(config.sample_ratio),
        None => Sampler::AlwaysOff,
    };
    let mut tracers = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Sampler::ParentBased(Box::new(root)));
    if exporting.is_some() {
        tracers = tracers.with_span_processor(Enqueue::new(Arc::clone(&queue)));
    }
    let tracers = tracers.build();
    let (meters, registry) = metrics::provider(resource, &queue)?;
    let traces = tracing_opentelemetry::layer()
        .with_tracer(tracers.tracer("forebay"))
        // Each of these would add attributes to every span that nobody reads.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter::traces());
    let subscriber = tracing_subscriber::registry()
        .with(logs::layer(config.log_format, service).with_filter(log_filter))
        .with(traces);
    let handle = Handle::new(registry, log_filter_control, &config.log_filter, queue);
    let telemetry = Telemetry { exporting, handle, meters, tracers };
    Ok((telemetry, Dispatch::new(subscriber)))
}

impl Telemetry {
    /// What the rest of the process may ask of telemetry.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Sends the spans that ended so far, and blocks this thread until they are sent or
    /// the timeout has passed. It needs no runtime and works after one is gone.
    ///
    /// # Errors
    /// When spans are left behind: the collector refused them, or the time was over.
    pub fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        match &self.exporting {
            Some(exporting) => exporting.flush(timeout),
            None => Ok(()),
        }
    }
}

/// Who this process is, on every span and metric.
fn resource(service: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", uuid::Uuid::new_v4().to_string()),
        ])
        .build()
}
