//! The instant by which the work of a task must be done.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// The longest timeout that is told apart from a longer one.
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

tokio::task_local! {
    static CURRENT: Deadline;
}

/// An absolute instant after which nobody waits for the result any more.
///
/// The gRPC server puts the deadline of a request into scope, and every wait
/// below it (for a connection, for a statement, for a peer) is cut to it
/// without passing it through each signature. A spawned task starts without
/// one: what outlives the request must not die with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline `timeout` from now; a timeout too long to represent is a month.
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout.min(MONTH))
    }

    /// The deadline at `instant`.
    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The deadline in scope of this task, if there is one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|deadline| *deadline).ok()
    }

    /// The nearer of the deadline in scope and `timeout` from now.
    pub fn within(timeout: Duration) -> Self {
        Self::within_from(Instant::now(), timeout)
    }

    /// As [`Deadline::within`], for one who has just looked at the clock.
    pub fn within_from(now: Instant, timeout: Duration) -> Self {
        let own = Self(now + timeout.min(MONTH));
        Self::current().map_or(own, |current| current.earliest(own))
    }

    /// The instant itself, for `tokio::time::timeout_at`.
    pub fn instant(&self) -> Instant {
        self.0
    }

    /// Time left; zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether no time is left.
    pub fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The nearer of two deadlines.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        self.min(other)
    }

    /// Runs `future` with this deadline in scope, or with the one already in scope if that is nearer.
    ///
    /// The future is not cut off: whoever waits inside asks [`Deadline::current`].
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let nearest = Self::current().map_or(self, |outer| outer.earliest(self));
        CURRENT.scope(nearest, future).await
    }
}

#[cfg(test)]
mod tests;
