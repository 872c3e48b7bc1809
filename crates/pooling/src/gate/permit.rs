//! A permit in the hands of a caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;

/// The right to use one of the things behind a [`crate::Gate`], given back on drop.
#[derive(Debug)]
pub struct GatePermit {
    lease: usize,
    waited: Duration,
    since: Instant,
    ended: Option<Instant>,
    gate: Arc<Inner>,
}

impl GatePermit {
    pub(super) fn new(gate: &Arc<Inner>, lease: usize, waited: Duration, since: Instant) -> Self {
        Self { lease, waited, since, ended: None, gate: Arc::clone(gate) }
    }

    /// How long the caller waited for it; zero if it was free.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// When the caller got it.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Begins the hold anew for [`crate::GateStats::hold_estimate`]: what the holder did until now
    /// was waiting too, and says nothing about how soon a permit comes back. Its age as a leak and
    /// in the list of holders stays.
    pub fn restart_hold(&self, now: Instant) {
        self.gate.state.lock().restart_hold(self.lease, now);
    }

    /// Takes the hold out of [`crate::GateStats::hold_estimate`]: its holder went away, and what is
    /// cleaned after it says nothing about how long the next one holds.
    pub fn disregard_hold(&self) {
        self.gate.state.lock().disregard_hold(self.lease);
    }

    /// Says what the holder does with it from now on: the summary of a statement, never its
    /// values. Shown with the longest holders and in the report of a leak.
    pub fn set_note(&self, note: Option<&'static str>) {
        self.gate.state.lock().note(self.lease, note);
    }

    /// Gives it back, as a drop does; `now` spares another look at the clock.
    pub fn give_back(mut self, now: Instant) {
        self.ended = Some(now);
    }
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        let now = self.ended.unwrap_or_else(Instant::now);
        let (next, is_idle) = {
            let mut state = self.gate.state.lock();
            (state.give_back(self.lease, now), state.is_idle_asked_for())
        };
        self.gate.settle(next, is_idle);
    }
}
