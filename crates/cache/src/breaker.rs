//! A breaker, so that a server that hangs does not cost its timeout on every read.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 5;
/// How long the breaker stays open before one operation may try again.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Closed: everything passes. Open: nothing does. Half open: one operation at a time tries.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Whether an operation may pass. While open, each `OPEN_FOR` lets one through.
    pub(crate) fn permits(&self) -> bool {
        let mut state = self.0.lock();
        match state.open_until {
            None => true,
            Some(until) => {
                let now = Instant::now();
                let probe = now >= until;
                if probe {
                    state.open_until = Some(now + OPEN_FOR);
                }
                probe
            }
        }
    }

    /// The state in one word, for an operator.
    pub(crate) fn state(&self) -> &'static str {
        if self.0.lock().open_until.is_some() { "open" } else { "closed" }
    }

    pub(crate) fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    pub(crate) fn failed(&self) {
        let mut state = self.0.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES_MAX {
            state.open_until = Some(Instant::now() + OPEN_FOR);
        }
    }
}

#[cfg(test)]
mod tests {
    //! Time is tokio's, so the tests move it.

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::default();
        for _ in 0..FAILURES_MAX - 1 {
            breaker.failed();
        }
        breaker.succeeded();
        for _ in 0..FAILURES_MAX {
            assert!(breaker.permits(), "a success in between starts the count again");
            breaker.failed();
        }
        assert!(!breaker.permits());
        tokio::time::advance(OPEN_FOR).await;
        assert!(breaker.permits(), "the probe");
        assert!(!breaker.permits(), "only one probe");
        breaker.succeeded();
        assert!(breaker.permits() && breaker.permits());
    }
}
