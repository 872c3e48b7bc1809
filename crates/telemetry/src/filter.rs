//! Which events are logged and which spans are exported.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::Filter;
use tracing_subscriber::reload;

use crate::error::TelemetryError;

/// Replaces the log filter while the process runs.
pub(crate) type LogFilterControl = reload::Handle<Targets, Registry>;

/// The SDK reports every failed export here; we report changes of state ourselves.
const NEVER_LOGGED: [&str; 4] =
    ["opentelemetry", "opentelemetry_sdk", "opentelemetry-otlp", "opentelemetry-prometheus"];

/// Machinery below our own spans: its spans would double every one of ours.
const NEVER_TRACED: [&str; 12] = [
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "opentelemetry-prometheus",
    "rustls",
    "tokio",
    "tonic",
    "tower",
    "want",
];

/// The filter of log lines, and the control that replaces it. Spans are kept from the
/// log layer: it would format the fields of every span on the chance of a line.
pub(crate) fn logs(
    directives: &str,
) -> Result<(impl Filter<Registry> + use<>, LogFilterControl), TelemetryError> {
    let (filter, control) = reload::Layer::new(parse(directives)?);
    // Not `is_event`: a question like `enabled!` is neither, and a wrong answer to it
    // would be remembered and swallow the event that follows.
    let events = filter_fn(|metadata| !metadata.is_span());
    // Without this hint the combination would let every TRACE callsite ask at run time.
    let events = events.with_max_level_hint(LevelFilter::TRACE);
    Ok((filter.and(events), control))
}

/// The filter of exported spans and their events.
pub(crate) fn traces() -> Targets {
    let never = NEVER_TRACED.map(|target| (target, LevelFilter::OFF));
    Targets::new().with_default(LevelFilter::INFO).with_targets(never)
}

/// Reads a list of levels and `target=level` pairs.
pub(crate) fn parse(directives: &str) -> Result<Targets, TelemetryError> {
    let targets: Targets = directives
        .parse()
        .map_err(|source| TelemetryError::Filter { directives: directives.to_owned(), source })?;
    Ok(targets.with_targets(NEVER_LOGGED.map(|target| (target, LevelFilter::OFF))))
}
