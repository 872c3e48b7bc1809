//! What the rest of the process may ask of telemetry.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use prometheus::Registry;
use tracing_subscriber::filter::Targets;

use crate::error::TelemetryError;
use crate::exposition;
use crate::filter::{self, LogFilterControl};
use crate::queue::SpanQueue;

/// What the rest of the process may ask of telemetry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// All metrics as text, with the content type to send it under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposition {
    /// Value of the `content-type` header.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

#[derive(Debug)]
struct Shared {
    registry: Registry,
    log_filter_control: LogFilterControl,
    /// The directives in force.
    log_filter: Mutex<String>,
    queue: Arc<SpanQueue>,
}

impl Handle {
    pub(crate) fn new(
        registry: Registry,
        log_filter_control: LogFilterControl,
        log_filter: &str,
        queue: Arc<SpanQueue>,
    ) -> Self {
        let log_filter = Mutex::new(log_filter.to_owned());
        Self { shared: Arc::new(Shared { registry, log_filter_control, log_filter, queue }) }
    }

    /// Every metric of the process in the OpenMetrics text format.
    pub fn render(&self) -> Exposition {
        exposition::render(&self.shared.registry.gather())
    }

    /// The log filter in force.
    pub fn log_filter(&self) -> String {
        self.shared.log_filter.lock().clone()
    }

    /// Replaces the log filter; takes effect at once, everywhere.
    ///
    /// # Errors
    /// When the directives cannot be parsed; then the old filter stays.
    pub fn set_log_filter(&self, directives: &str) -> Result<(), TelemetryError> {
        let targets = filter::parse(directives)?;
        // Held across the change, so that what is shown is what is in force.
        let mut log_filter = self.shared.log_filter.lock();
        let reload = self.shared.log_filter_control.reload(targets);
        reload.map_err(|source| TelemetryError::Reload { source })?;
        directives.clone_into(&mut log_filter);
        Ok(())
    }

    /// Whether an event of this target and level would become a log line.
    pub fn logs(&self, target: &str, level: tracing::Level) -> bool {
        let enabled = |targets: &Targets| targets.would_enable(target, &level);
        self.shared.log_filter_control.with_current(enabled).unwrap_or(false)
    }

    /// Spans dropped since the start, because the queue was full.
    pub fn spans_dropped(&self) -> u64 {
        self.shared.queue.dropped.load(Ordering::Relaxed)
    }
}
