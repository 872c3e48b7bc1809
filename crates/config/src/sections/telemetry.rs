//! `[telemetry]`: traces, metrics and logs.

use std::time::Duration;

use crate::reader::Reader;

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

impl TelemetryConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let otlp_endpoint = reader.optional_endpoint("telemetry.otlp_endpoint");
        let sample_ratio = reader.ratio("telemetry.sample_ratio");
        let span_queue_max = reader.integer("telemetry.span_queue_max", 64..=1_000_000);
        let flush_limits = Duration::from_millis(1)..=Duration::from_secs(60);
        let flush_timeout = reader.duration("telemetry.flush_timeout", flush_limits);
        let log_filter = reader.text("telemetry.log_filter", 4096);
        let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
        let log_format = reader.choice("telemetry.log_format", &formats);
        Some(Self {
            otlp_endpoint: otlp_endpoint?,
            sample_ratio: sample_ratio?,
            span_queue_max: span_queue_max?,
            flush_timeout: flush_timeout?,
            log_filter: log_filter?,
            log_format: log_format?,
        })
    }
}
