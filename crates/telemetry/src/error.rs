//! What can go wrong in telemetry.

use std::time::Duration;

/// Telemetry could not be started or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The log filter is not a list of levels and `target=level` pairs.
    #[error("telemetry.log_filter: parse {directives:?}")]
    Filter {
        /// What was given.
        directives: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The running filter could not be replaced because the subscriber is gone.
    #[error("replace the log filter")]
    Reload {
        /// Why it could not be replaced.
        #[source]
        source: tracing_subscriber::reload::Error,
    },
    /// The exporter refuses the endpoint.
    #[error("telemetry.otlp_endpoint: export traces to {endpoint}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// The metrics could not be registered for exposition.
    #[error("expose metrics")]
    Metrics {
        /// Why they could not be registered.
        #[source]
        source: opentelemetry_sdk::error::OTelSdkError,
    },
    /// The thread or the runtime of the export could not be started.
    #[error("start the export thread")]
    Thread {
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// Another subscriber is installed in this process.
    #[error("install the log and trace subscriber")]
    Installed {
        /// What is installed.
        #[source]
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Spans were left behind by a flush.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The collector could not be reached or refused the spans.
    #[error("{spans} spans could not be exported")]
    Rejected {
        /// How many are left.
        spans: usize,
    },
    /// The time was over before all spans were sent.
    #[error("spans were still being exported after {timeout:?}")]
    TimedOut {
        /// The time that was given.
        timeout: Duration,
    },
}
