//! The bounded queue between the threads that end spans and the one that exports them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Spans in one export. The OpenTelemetry default; about half a megabyte on the wire.
pub(crate) const BATCH_SPANS_MAX: usize = 512;

/// Ended spans that wait for export, at most a fixed number.
#[derive(Debug)]
pub(crate) struct SpanQueue {
    spans: Mutex<VecDeque<SpanData>>,
    spans_max: usize,
    /// Wakes the exporter: when work begins to wait and when a batch is full, so that
    /// a span costs a wake-up only once a batch.
    pub(crate) wake: Notify,
    /// Spans dropped because the queue was full.
    pub(crate) dropped: AtomicU64,
    /// Spans that the collector took.
    pub(crate) exported: AtomicU64,
    /// Spans given up after the collector refused them too often.
    pub(crate) lost: AtomicU64,
}

impl SpanQueue {
    pub(crate) fn new(spans_max: usize) -> Self {
        Self {
            spans: Mutex::default(),
            spans_max,
            wake: Notify::new(),
            dropped: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    /// Takes a span, or drops and counts it when the queue is full.
    pub(crate) fn push(&self, span: SpanData) {
        let length = {
            let mut spans = self.spans.lock();
            if spans.len() >= self.spans_max {
                drop(spans);
                self.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            spans.push_back(span);
            spans.len()
        };
        if length == 1 || length == BATCH_SPANS_MAX {
            self.wake.notify_one();
        }
    }

    /// The oldest spans, at most one batch.
    pub(crate) fn take_batch(&self) -> Vec<SpanData> {
        let mut spans = self.spans.lock();
        let length = spans.len().min(BATCH_SPANS_MAX);
        spans.drain(..length).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.lock().len()
    }
}

/// Hands ended spans of the OpenTelemetry SDK to the queue.
#[derive(Debug)]
pub(crate) struct Enqueue {
    queue: Arc<SpanQueue>,
}

impl Enqueue {
    pub(crate) fn new(queue: Arc<SpanQueue>) -> Self {
        Self { queue }
    }
}

impl SpanProcessor for Enqueue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        // A span that is not sampled may still be recorded; exporting it would break
        // the sampling decision.
        if span.span_context.is_sampled() {
            self.queue.push(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.wake.notify_one();
        Ok(())
    }

    /// The queue outlives the provider: what is left is sent by `Telemetry::flush`.
    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
