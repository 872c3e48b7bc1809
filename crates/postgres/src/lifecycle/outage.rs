//! What is known about a server that does not let us in.

use std::future::Future;

use forebay_pooling::{Breaker, BreakerConfig, BreakerStats, Failures};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::PgError;

/// The breaker, and what it does not keep: since when the server fails.
pub(crate) struct Outage {
    breaker: Breaker<PgError>,
    since: Mutex<Option<Instant>>,
}

impl Outage {
    /// No outage.
    pub(crate) fn new(name: &'static str) -> Self {
        let config = BreakerConfig { is_permanent, ..BreakerConfig::new(name) };
        Self { breaker: Breaker::new(config), since: Mutex::new(None) }
    }

    /// Runs one attempt, or fails at once with the last cause while it is too early for another.
    pub(crate) async fn attempt<T>(
        &self,
        connect: impl Future<Output = Result<T, PgError>>,
    ) -> Result<T, PgError> {
        // The breaker would tell everybody who listens once more, for each of those who ask.
        if self.retry_at().is_some_and(|at| Instant::now() < at)
            && let Some(cause) = self.breaker.cause()
        {
            return Err(cause);
        }
        let noted = async {
            let outcome = connect.await;
            // Before the breaker spreads the news, or who hears it would not find this.
            match &outcome {
                Ok(_) => *self.since.lock() = None,
                Err(_) => {
                    self.since.lock().get_or_insert_with(Instant::now);
                }
            }
            outcome
        };
        self.breaker.attempt(noted).await
    }

    /// Hears of every failure from now on.
    pub(crate) fn listen(&self) -> Failures<PgError> {
        self.breaker.listen()
    }

    /// Why the last attempt failed; `None` if it did not.
    pub(crate) fn cause(&self) -> Option<PgError> {
        self.breaker.cause()
    }

    /// When the outage began.
    pub(crate) fn since(&self) -> Option<Instant> {
        *self.since.lock()
    }

    /// When the server may be asked again, while it may not.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.breaker.retry_at()
    }

    pub(crate) fn stats(&self) -> BreakerStats {
        self.breaker.stats()
    }
}

/// Whether a person has to act before another attempt can succeed.
fn is_permanent(cause: &PgError) -> bool {
    matches!(cause, PgError::Auth { .. } | PgError::UnknownDatabase { .. } | PgError::Tls { .. })
}
