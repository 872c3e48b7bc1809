//! What is known about a server that does not let us in.
//!
//! bb8 tries to connect in the background and tells nobody why it failed. Here
//! every failure is kept and handed to all who wait for a connection, and a
//! failing server is asked by one attempt at a time, with growing pauses.

use std::future::Future;
use std::time::Duration;

use forebay_pooling::Backoff;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::PgError;

/// Pauses between attempts to reach a failing server. The maximum is short
/// because it bounds how long we do not notice that the server is back.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));

/// The state of our attempts to connect.
pub(crate) struct Outage {
    state: Mutex<State>,
    /// Held by the one attempt that may go out while the server fails.
    probe: tokio::sync::Mutex<()>,
    failures: watch::Sender<Option<PgError>>,
}

#[derive(Default)]
struct State {
    failures: u32,
    failed: Option<Failed>,
    attempts_failed: u64,
}

struct Failed {
    cause: PgError,
    since: Instant,
    retry_at: Instant,
}

impl Outage {
    /// No outage.
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            probe: tokio::sync::Mutex::new(()),
            failures: watch::Sender::new(None),
        }
    }

    /// Runs one attempt, or fails at once with the last cause while it is too early for another.
    pub(crate) async fn attempt<T>(
        &self,
        connect: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, PgError> {
        if !self.is_failing() {
            return self.settle(connect.await);
        }
        let _probe = self.probe.lock().await;
        match self.cause_if_too_early() {
            // The one before us has just failed, or the pause is not over.
            Some(cause) => Err(cause),
            None => self.settle(connect.await),
        }
    }

    /// Hears of every failure from now on.
    pub(crate) fn listen(&self) -> watch::Receiver<Option<PgError>> {
        self.failures.subscribe()
    }

    /// Why the last attempt failed, and when the outage began; `None` if it did not fail.
    pub(crate) fn cause_since(&self) -> Option<(PgError, Instant)> {
        let state = self.state.lock();
        state.failed.as_ref().map(|failed| (failed.cause.clone(), failed.since))
    }

    /// When the server may be asked again; `None` if there is no outage.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.state.lock().failed.as_ref().map(|failed| failed.retry_at)
    }

    /// Why the last attempt failed; `None` if it did not.
    pub(crate) fn cause(&self) -> Option<PgError> {
        self.state.lock().failed.as_ref().map(|failed| failed.cause.clone())
    }

    /// Attempts that failed so far.
    pub(crate) fn attempts_failed(&self) -> u64 {
        self.state.lock().attempts_failed
    }

    fn is_failing(&self) -> bool {
        self.state.lock().failed.is_some()
    }

    fn cause_if_too_early(&self) -> Option<PgError> {
        let state = self.state.lock();
        let failed = state.failed.as_ref().filter(|failed| Instant::now() < failed.retry_at);
        failed.map(|failed| failed.cause.clone())
    }

    fn settle<T>(&self, outcome: Result<T, PgError>) -> Result<T, PgError> {
        match &outcome {
            Ok(_) => {
                if self.state.lock().recover() {
                    tracing::info!("postgres accepts connections again");
                }
            }
            Err(cause) => {
                if self.state.lock().fail(cause) {
                    let cause: &dyn std::error::Error = cause;
                    tracing::warn!(error = cause, "postgres refuses connections");
                }
                self.failures.send_replace(Some(cause.clone()));
            }
        }
        outcome
    }
}

impl State {
    /// `true` if an outage ended.
    fn recover(&mut self) -> bool {
        self.failures = 0;
        self.failed.take().is_some()
    }

    /// `true` if an outage began.
    fn fail(&mut self, cause: &PgError) -> bool {
        let now = Instant::now();
        let began = self.failed.is_none();
        self.attempts_failed += 1;
        // Attempts that went out together fail together and count as one.
        if self.failed.as_ref().is_none_or(|failed| failed.retry_at <= now) {
            self.failures += 1;
        }
        let retry_at = now + BACKOFF.delay(self.failures);
        let since = self.failed.as_ref().map_or(now, |failed| failed.since);
        self.failed = Some(Failed { cause: cause.clone(), since, retry_at });
        began
    }
}

#[cfg(test)]
mod tests;
