//! A breaker, so that a server that hangs or crawls does not cost its timeout on every read.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures in a row that open the breaker.
const FAILURES_MAX: u32 = 5;
/// Calls that are looked back on for the rate of slow ones.
const WINDOW: u32 = u32::BITS;
/// Slow calls among those that open the breaker: three quarters, so that neither a hiccup of this
/// process nor one large answer does.
const SLOW_MAX: u32 = WINDOW / 4 * 3;
/// How long the breaker stays open before one call may try again.
const OPEN_FOR: Duration = Duration::from_millis(500);

/// Closed: everything passes. Open: nothing does. Half open: one call tries, and closes or opens it.
#[derive(Debug)]
pub(crate) struct Breaker {
    slow_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    position: Position,
    /// Counts the changes of the position: a call of an earlier one has no say any more.
    era: u64,
    /// Failures in a row.
    failures: u32,
    /// The last calls, the newest in the lowest bit; set if it was slow.
    slow: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// A call that may pass. Dropped before it ended, it says nothing about the server.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    breaker: &'a Breaker,
    started_at: Instant,
    era: u64,
    has_ended: bool,
}

impl Breaker {
    /// A closed breaker; a call that takes longer than `slow_after` is slow.
    pub(crate) fn new(slow_after: Duration) -> Self {
        let state = State { position: Position::Closed, era: 0, failures: 0, slow: 0 };
        Self { slow_after, state: Mutex::new(state) }
    }

    /// Lets a call pass, or not.
    pub(crate) fn call(&self) -> Option<Call<'_>> {
        let now = Instant::now();
        let mut state = self.state.lock();
        match state.position {
            Position::Closed => {}
            Position::Open { until } if now >= until => state.turn(Position::HalfOpen),
            Position::Open { .. } | Position::HalfOpen => return None,
        }
        Some(Call { breaker: self, started_at: now, era: state.era, has_ended: false })
    }

    /// The state in one word, for an operator.
    pub(crate) fn state(&self) -> &'static str {
        let position = self.state.lock().position;
        match position {
            Position::Closed => "closed",
            Position::Open { .. } => "open",
            Position::HalfOpen => "half_open",
        }
    }
}

impl Call<'_> {
    /// The server answered with few bytes, so its time tells how it is.
    pub(crate) fn answered(self) {
        let is_slow = self.started_at.elapsed() > self.breaker.slow_after;
        self.end(true, is_slow);
    }

    /// The server did something whose time depends on how much it was.
    pub(crate) fn worked(self) {
        self.end(true, false);
    }

    pub(crate) fn failed(self) {
        self.end(false, true);
    }

    fn end(mut self, is_answered: bool, is_slow: bool) {
        self.has_ended = true;
        let mut state = self.breaker.state.lock();
        if state.era != self.era {
            return;
        }
        let open = Position::Open { until: Instant::now() + OPEN_FOR };
        if state.position == Position::HalfOpen {
            return state.turn(if is_slow { open } else { Position::Closed });
        }
        state.failures = if is_answered { 0 } else { state.failures + 1 };
        state.slow = (state.slow << 1) | u32::from(is_slow);
        if state.failures >= FAILURES_MAX || state.slow.count_ones() >= SLOW_MAX {
            state.turn(open);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut state = self.breaker.state.lock();
        // Nobody learned anything: the next call may try.
        if !self.has_ended && state.era == self.era && state.position == Position::HalfOpen {
            state.turn(Position::Open { until: Instant::now() });
        }
    }
}

impl State {
    fn turn(&mut self, position: Position) {
        *self = Self { position, era: self.era + 1, failures: 0, slow: 0 };
        match position {
            Position::Closed => tracing::info!("the cache asks redis again"),
            Position::Open { .. } => {
                tracing::warn!("redis fails or is slow, the cache does without")
            }
            Position::HalfOpen => {}
        }
    }
}

#[cfg(test)]
mod tests {
    //! Time is tokio's, so the tests move it.

    use super::*;

    const SLOW: Duration = Duration::from_millis(15);

    fn pass(breaker: &Breaker) -> Call<'_> {
        breaker.call().expect("may pass")
    }

    /// Lets the breaker open by failures.
    fn opened() -> Breaker {
        let breaker = Breaker::new(SLOW);
        for _ in 0..FAILURES_MAX {
            pass(&breaker).failed();
        }
        assert_eq!(breaker.state(), "open");
        breaker
    }

    /// Fails if the count goes on over a success, or if more than one call tries.
    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_lets_one_probe_through() {
        let breaker = Breaker::new(SLOW);
        for _ in 0..FAILURES_MAX - 1 {
            pass(&breaker).failed();
        }
        pass(&breaker).answered();
        for _ in 0..FAILURES_MAX {
            pass(&breaker).failed();
        }
        assert!(breaker.call().is_none());
        tokio::time::advance(OPEN_FOR).await;
        let probe = pass(&breaker);
        tokio::time::advance(OPEN_FOR * 10).await;
        assert!(breaker.call().is_none(), "only one probe, however long it takes");
        probe.failed();
        assert!(breaker.call().is_none(), "open again");
        tokio::time::advance(OPEN_FOR).await;
        pass(&breaker).answered();
        assert_eq!(breaker.state(), "closed");
    }

    /// Fails without the rate of slow calls: each of them ends in time.
    #[tokio::test(start_paused = true)]
    async fn opens_when_most_calls_are_slow_although_none_fails() {
        let breaker = Breaker::new(SLOW);
        let slow = async || {
            let call = pass(&breaker);
            tokio::time::advance(SLOW * 2).await;
            call.answered();
        };
        for _ in 0..3 * WINDOW {
            slow().await;
            pass(&breaker).answered();
        }
        assert_eq!(breaker.state(), "closed", "half of them");
        for _ in 0..WINDOW {
            if breaker.state() == "closed" {
                slow().await;
            }
        }
        assert_eq!(breaker.state(), "open");
        tokio::time::advance(OPEN_FOR).await;
        slow().await;
        assert_eq!(breaker.state(), "open", "a slow probe does not close it");
    }

    /// Fails if a call from before counts for what came after it, or if a probe that nobody waited
    /// for keeps the breaker half open for ever.
    #[tokio::test(start_paused = true)]
    async fn calls_of_another_time_have_no_say() {
        let breaker = Breaker::new(SLOW);
        let late = pass(&breaker);
        for _ in 0..FAILURES_MAX {
            pass(&breaker).failed();
        }
        late.answered();
        assert_eq!(breaker.state(), "open");
        let breaker = opened();
        tokio::time::advance(OPEN_FOR).await;
        drop(pass(&breaker));
        pass(&breaker).answered();
        assert_eq!(breaker.state(), "closed");
    }
}
