//! The states of a breaker and the steps between them.

use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerState, BreakerStats};

/// Attempts admitted at once in the last step before it closes.
const PROBES_MAX: u32 = 8;

#[derive(Debug)]
pub(super) struct State<E> {
    mode: Mode<E>,
    /// Those who wait for their turn.
    pub(super) waiting: usize,
    /// Grows with each step. Attempts admitted in the same step went out together: when they
    /// fail together, that is one failure.
    epoch: u64,
    failures_in_a_row: u32,
    opened: u64,
    attempts_failed: u64,
    attempts_refused: u64,
}

#[derive(Debug)]
enum Mode<E> {
    Closed,
    Open { cause: E, retry_at: Instant },
    HalfOpen { cause: E, limit: u32, out: u32, succeeded: u32 },
}

/// Whether an attempt may go out.
pub(super) enum Admission<E> {
    Go { epoch: u64 },
    Wait,
    TooEarly { cause: E },
}

/// What an operator is told.
pub(super) enum Change {
    Opened,
    Closed,
}

impl<E: Clone> State<E> {
    pub(super) fn new() -> Self {
        Self {
            mode: Mode::Closed,
            waiting: 0,
            epoch: 0,
            failures_in_a_row: 0,
            opened: 0,
            attempts_failed: 0,
            attempts_refused: 0,
        }
    }

    pub(super) fn admit(&mut self) -> Admission<E> {
        match &mut self.mode {
            Mode::Closed => Admission::Go { epoch: self.epoch },
            Mode::Open { cause, retry_at } if Instant::now() < *retry_at => {
                self.attempts_refused += 1;
                Admission::TooEarly { cause: cause.clone() }
            }
            Mode::Open { cause, .. } => {
                let cause = cause.clone();
                self.half_open(cause, 1, 1);
                Admission::Go { epoch: self.epoch }
            }
            Mode::HalfOpen { limit, out, .. } if *out < *limit => {
                *out += 1;
                Admission::Go { epoch: self.epoch }
            }
            Mode::HalfOpen { .. } => Admission::Wait,
        }
    }

    pub(super) fn succeeded(&mut self, epoch: u64) -> Option<Change> {
        let is_current = epoch == self.epoch;
        let is_alone = self.waiting == 0;
        match &mut self.mode {
            Mode::Closed => {
                self.failures_in_a_row = 0;
                None
            }
            // It went out before the others failed, and yet it was let in: the server is there.
            Mode::Open { cause, .. } => {
                let cause = cause.clone();
                self.half_open(cause, 2, 0);
                None
            }
            Mode::HalfOpen { .. } if !is_current => None,
            Mode::HalfOpen { cause, limit, out, succeeded } => {
                *out = out.saturating_sub(1);
                *succeeded += 1;
                // Nobody is out and nobody waits, so there is no herd to hold back.
                let is_over = *out == 0 && is_alone;
                let is_last = *succeeded >= *limit && *limit >= PROBES_MAX;
                if is_over || is_last {
                    self.mode = Mode::Closed;
                    self.epoch += 1;
                    self.failures_in_a_row = 0;
                    return Some(Change::Closed);
                }
                if *succeeded >= *limit {
                    let (cause, limit, out) = (cause.clone(), *limit * 2, *out);
                    // Those of this step that are still out count in the next one.
                    self.mode = Mode::HalfOpen { cause, limit, out, succeeded: 0 };
                }
                None
            }
        }
    }

    pub(super) fn failed(
        &mut self,
        epoch: u64,
        cause: &E,
        trips_after: u32,
        pause: impl FnOnce(u32) -> Duration,
    ) -> Option<Change> {
        self.attempts_failed += 1;
        if epoch != self.epoch {
            // It went out with one that has failed before it. Its cause is the newer one.
            if let Mode::Open { cause: last, .. } | Mode::HalfOpen { cause: last, .. } =
                &mut self.mode
            {
                *last = cause.clone();
            }
            return None;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let was_closed = matches!(self.mode, Mode::Closed);
        if was_closed && self.failures_in_a_row < trips_after {
            return None;
        }
        let retry_at = Instant::now() + pause(self.failures_in_a_row);
        self.mode = Mode::Open { cause: cause.clone(), retry_at };
        self.epoch += 1;
        self.opened += u64::from(was_closed);
        was_closed.then_some(Change::Opened)
    }

    /// An attempt ended without an outcome.
    pub(super) fn abandoned(&mut self, epoch: u64) {
        if let Mode::HalfOpen { out, .. } = &mut self.mode
            && epoch == self.epoch
        {
            *out = out.saturating_sub(1);
        }
    }

    pub(super) fn cause(&self) -> Option<E> {
        match &self.mode {
            Mode::Closed => None,
            Mode::Open { cause, .. } | Mode::HalfOpen { cause, .. } => Some(cause.clone()),
        }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        match &self.mode {
            Mode::Open { retry_at, .. } => Some(*retry_at),
            Mode::Closed | Mode::HalfOpen { .. } => None,
        }
    }

    fn half_open(&mut self, cause: E, limit: u32, out: u32) {
        self.mode = Mode::HalfOpen { cause, limit, out, succeeded: 0 };
        self.epoch += 1;
    }
}

impl<E> State<E> {
    pub(super) fn stats(&self) -> BreakerStats {
        BreakerStats {
            state: match self.mode {
                Mode::Closed => BreakerState::Closed,
                Mode::Open { .. } => BreakerState::Open,
                Mode::HalfOpen { .. } => BreakerState::HalfOpen,
            },
            opened: self.opened,
            attempts_failed: self.attempts_failed,
            attempts_refused: self.attempts_refused,
        }
    }
}
