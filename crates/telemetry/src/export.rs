//! The export of spans: a thread with a runtime of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc as blocking;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::{FlushError, TelemetryError};
use crate::queue::{BATCH_SPANS_MAX, SpanQueue};

/// How long a span waits for others to share its export. Short, because a developer
/// looks for the trace of the call just made.
const BATCH_DELAY: Duration = Duration::from_millis(250);
/// How long one export may take; a collector that hangs costs no more.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Exports of one batch before it is given up: a batch that the collector cannot take
/// must not stay in the way of those after it.
const ATTEMPTS_MAX: u32 = 5;
/// First and longest pause after a failed export.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Flushes that may wait at once; there is one at the end of a process.
const FLUSHES_MAX: usize = 4;

/// The running export. Dropping it ends the thread without waiting for it.
#[derive(Debug)]
pub(crate) struct Exporting {
    flushes: mpsc::Sender<blocking::SyncSender<usize>>,
    queue: Arc<SpanQueue>,
}

/// Starts the export to an endpoint. Connecting happens later and may fail for ever.
pub(crate) fn start(
    endpoint: &str,
    resource: &Resource,
    queue: Arc<SpanQueue>,
) -> Result<Exporting, TelemetryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| TelemetryError::Thread { source })?;
    let exporter = {
        // The channel of the exporter spawns its tasks where it is built.
        let _entered = runtime.enter();
        exporter(endpoint, resource)?
    };
    let (flushes, requests) = mpsc::channel(FLUSHES_MAX);
    let endpoint = endpoint.to_owned();
    let export = Export {
        exporter,
        queue: Arc::clone(&queue),
        endpoint,
        batch: Vec::new(),
        attempts: 0,
        pause: None,
    };
    std::thread::Builder::new()
        .name("telemetry".to_owned())
        .spawn(move || {
            // Every task of this runtime runs on this thread, so nothing the exporter
            // does can become a span and be exported in turn.
            let _suppressed = Context::enter_telemetry_suppressed_scope();
            runtime.block_on(export.run(requests));
        })
        .map_err(|source| TelemetryError::Thread { source })?;
    Ok(Exporting { flushes, queue })
}

impl Exporting {
    /// Exports everything that waits, within a time.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let (reply, replied) = blocking::sync_channel(1);
        if self.flushes.try_send(reply).is_err() {
            return Err(FlushError::Rejected { spans: self.queue.len() });
        }
        match replied.recv_timeout(timeout) {
            Ok(0) => Ok(()),
            Ok(spans) => Err(FlushError::Rejected { spans }),
            Err(blocking::RecvTimeoutError::Timeout) => Err(FlushError::TimedOut { timeout }),
            Err(blocking::RecvTimeoutError::Disconnected) => {
                Err(FlushError::Rejected { spans: self.queue.len() })
            }
        }
    }
}

fn exporter(endpoint: &str, resource: &Resource) -> Result<SpanExporter, TelemetryError> {
    let mut exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        // Retries are ours: between two attempts a flush must be able to end.
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(|source| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), source })?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// The state of the export thread.
struct Export {
    exporter: SpanExporter,
    queue: Arc<SpanQueue>,
    endpoint: String,
    /// The batch that failed and is tried again.
    batch: Vec<SpanData>,
    /// Failed attempts of that batch.
    attempts: u32,
    /// The pause before the next attempt, while export fails.
    pause: Option<Duration>,
}

/// What became of one attempt to export.
enum Attempt {
    Idle,
    Sent,
    Failed,
}

impl Export {
    async fn run(mut self, mut flushes: mpsc::Receiver<blocking::SyncSender<usize>>) {
        loop {
            tokio::select! {
                flush = flushes.recv() => {
                    let Some(reply) = flush else { return };
                    while let Attempt::Sent = self.attempt().await {}
                    // Whoever asked may have stopped waiting, and that is its right.
                    let _ = reply.try_send(self.batch.len() + self.queue.len());
                }
                () = self.batch_due() => {
                    let _ = self.attempt().await;
                }
            }
        }
    }

    /// Completes when something should be exported.
    async fn batch_due(&self) {
        if let Some(pause) = self.pause {
            return sleep(pause).await;
        }
        while self.queue.len() == 0 {
            self.queue.wake.notified().await;
        }
        let due = Instant::now() + BATCH_DELAY;
        while self.queue.len() < BATCH_SPANS_MAX {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.queue.wake.notified() => {}
            }
        }
    }

    async fn attempt(&mut self) -> Attempt {
        if self.batch.is_empty() {
            self.batch = self.queue.take_batch();
            self.attempts = 0;
        }
        if self.batch.is_empty() {
            return Attempt::Idle;
        }
        let export = self.exporter.export(self.batch.clone());
        let error = match timeout(EXPORT_TIMEOUT, export).await {
            Ok(Ok(())) => {
                self.succeeded();
                return Attempt::Sent;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {EXPORT_TIMEOUT:?}"),
        };
        self.failed(&error);
        Attempt::Failed
    }

    fn succeeded(&mut self) {
        self.queue.exported.fetch_add(count(&self.batch), Ordering::Relaxed);
        self.batch.clear();
        if self.pause.take().is_some() {
            let lost = self.queue.lost.load(Ordering::Relaxed);
            let dropped = self.queue.dropped.load(Ordering::Relaxed);
            tracing::info!(endpoint = self.endpoint, lost, dropped, "trace export works again");
        }
    }

    fn failed(&mut self, error: &str) {
        if self.pause.is_none() {
            tracing::warn!(endpoint = self.endpoint, error, "trace export fails");
        }
        self.pause = Some(self.pause.map_or(PAUSE_MIN, |pause| (pause * 2).min(PAUSE_MAX)));
        self.attempts += 1;
        if self.attempts >= ATTEMPTS_MAX {
            self.queue.lost.fetch_add(count(&self.batch), Ordering::Relaxed);
            self.batch.clear();
        }
    }
}

fn count(batch: &[SpanData]) -> u64 {
    u64::try_from(batch.len()).unwrap_or(u64::MAX)
}
