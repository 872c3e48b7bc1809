//! `[telemetry]`: traces, metrics and logs.

use std::time::Duration;

/// Traces, metrics and logs.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// OTLP gRPC endpoint such as `http://127.0.0.1:4317`; `None` exports no traces.
    pub otlp_endpoint: Option<String>,
    /// Share of traces started here that are recorded, 0.0 to 1.0. A caller's decision wins.
    pub sample_ratio: f64,
    /// Spans waiting for export; more are dropped and counted.
    pub span_queue_max: usize,
    /// How long the last flush may take when the process ends.
    pub flush_timeout: Duration,
    /// Log filter directives, such as `info,forebay_cache=debug`.
    pub log_filter: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}
