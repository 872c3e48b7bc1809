//! What is known about a server that does not let us in.
//!
//! While it fails, one attempt at a time asks it, with growing random pauses
//! between them, and everyone else is told why at once. When it lets us in
//! again, attempts are admitted one, two, four and eight at a time, so that a
//! server that has just come back is not met by all of us.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Backoff;

pub use listen::Failures;
use state::{Admission, Change, State};
pub use stats::{BreakerState, BreakerStats};

mod listen;
mod state;
mod stats;

/// How a [`Breaker`] acts.
#[derive(Debug)]
pub struct BreakerConfig<E> {
    /// What lies behind it, for the log: `postgres`.
    pub name: &'static str,
    /// Pauses between attempts while the server fails. The maximum bounds how long nobody
    /// notices that the server is back.
    pub backoff: Backoff,
    /// Failures in a row that open it, unless the cause is permanent.
    pub trips_after: u32,
    /// Whether trying again soon is of no use: a wrong password, an unknown database, a
    /// certificate nobody trusts. Such a cause opens it at once, and for the longest pause.
    pub is_permanent: fn(&E) -> bool,
}

impl<E> BreakerConfig<E> {
    /// The longest pause by default. It leaves room in the second in which everybody is to be served
    /// again: after it come one attempt, then two, four and eight, and each has a handshake. Eight
    /// attempts a second, which it amounts to, are no load for a server.
    pub const PAUSE_MAX: Duration = Duration::from_millis(250);
    /// The pause after the first failure is random below this.
    pub const PAUSE_FIRST: Duration = Duration::from_millis(100);

    /// Opens at the first failure, and treats no cause as permanent.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            backoff: Backoff::new(Self::PAUSE_FIRST, Self::PAUSE_MAX),
            trips_after: 1,
            is_permanent: |_| false,
        }
    }
}

/// See the module.
///
/// It starts nothing by itself: an attempt goes out when somebody asks and the
/// pause is over. [`Breaker::retry_at`] tells when that is.
#[derive(Debug)]
pub struct Breaker<E> {
    config: BreakerConfig<E>,
    state: Mutex<State<E>>,
    /// Told whenever an attempt ended, so that those who wait for their turn look again.
    turn: Notify,
    failures: watch::Sender<Option<E>>,
}

impl<E: Clone + Error + 'static> Breaker<E> {
    /// A closed one.
    pub fn new(config: BreakerConfig<E>) -> Self {
        Self {
            config,
            state: Mutex::new(State::new()),
            turn: Notify::new(),
            failures: watch::Sender::new(None),
        }
    }

    /// Runs one attempt, or fails at once with the last cause while it is too early for another.
    ///
    /// After an outage it may wait for its turn: as long as the attempts before it take. So an
    /// attempt needs a timeout of its own. Cancel-safe.
    ///
    /// # Errors
    /// What `connect` fails with, or the cause of the last failure when nothing was tried.
    pub async fn attempt<T>(&self, connect: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let epoch = self.admitted().await?;
        let mut attempt = Attempt { breaker: self, epoch, has_ended: false };
        let outcome = connect.await;
        attempt.settle(outcome.as_ref().err());
        outcome
    }

    /// Hears of every failure from now on. Call it before asking for a connection: a failure
    /// between the two would go unheard.
    pub fn listen(&self) -> Failures<E> {
        Failures(self.failures.subscribe())
    }

    /// Why it is not closed; `None` if it is.
    pub fn cause(&self) -> Option<E> {
        self.state.lock().cause()
    }

    /// When the next attempt may go out, while none may.
    pub fn retry_at(&self) -> Option<Instant> {
        self.state.lock().retry_at()
    }

    /// The state and the counters now.
    pub fn stats(&self) -> BreakerStats {
        self.state.lock().stats()
    }

    /// Waits for a turn, and returns what attempts that go out together have in common.
    async fn admitted(&self) -> Result<u64, E> {
        let mut waiting: Option<Waiting<'_, E>> = None;
        loop {
            let turn = self.turn.notified();
            tokio::pin!(turn);
            // Registered before the check, or an attempt that ends between the two would be missed.
            turn.as_mut().enable();
            let admission = self.state.lock().admit();
            match admission {
                Admission::Go { epoch } => return Ok(epoch),
                Admission::TooEarly { cause } => {
                    // Whoever waits for the connection of this attempt learns that none will come.
                    self.failures.send_replace(Some(cause.clone()));
                    return Err(cause);
                }
                Admission::Wait => {
                    if waiting.is_none() {
                        self.state.lock().waiting += 1;
                        waiting = Some(Waiting(self));
                    }
                }
            }
            turn.await;
        }
    }
}

/// An attempt that is out. Dropped before it ended, it leaves its turn to another.
struct Attempt<'a, E: Clone + Error + 'static> {
    breaker: &'a Breaker<E>,
    epoch: u64,
    has_ended: bool,
}

impl<E: Clone + Error + 'static> Attempt<'_, E> {
    fn settle(&mut self, failure: Option<&E>) {
        self.has_ended = true;
        let BreakerConfig { name, backoff, trips_after, is_permanent } = &self.breaker.config;
        let change = match failure {
            None => self.breaker.state.lock().succeeded(self.epoch),
            Some(cause) => {
                let pause = |failures: u32| {
                    if is_permanent(cause) {
                        // Never next to nothing: repeated wrong passwords may lock an account.
                        return backoff.ceiling(u32::MAX) / 2 + backoff.delay(u32::MAX) / 2;
                    }
                    backoff.delay(failures)
                };
                let threshold = if is_permanent(cause) { 1 } else { *trips_after };
                self.breaker.state.lock().failed(self.epoch, cause, threshold, pause)
            }
        };
        match (change, failure) {
            (Some(Change::Opened), Some(cause)) => {
                let cause: &dyn Error = cause;
                tracing::warn!(pool = name, error = cause, "the server refuses connections");
            }
            (Some(Change::Closed), _) => {
                tracing::info!(pool = name, "the server accepts connections again");
            }
            (Some(Change::Opened), None) | (None, _) => {}
        }
        if let Some(cause) = failure {
            self.breaker.failures.send_replace(Some(cause.clone()));
        }
        self.breaker.turn.notify_waiters();
    }
}

impl<E: Clone + Error + 'static> Drop for Attempt<'_, E> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.breaker.state.lock().abandoned(self.epoch);
            self.breaker.turn.notify_waiters();
        }
    }
}

/// Counts one who waits for its turn out again, also when its future is dropped.
struct Waiting<'a, E>(&'a Breaker<E>);

impl<E> Drop for Waiting<'_, E> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

#[cfg(test)]
mod tests;
