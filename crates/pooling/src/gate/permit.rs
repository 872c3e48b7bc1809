//! A permit in the hands of a caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;

/// The right to use one of the things behind a [`crate::Gate`], given back on drop.
#[derive(Debug)]
pub struct GatePermit {
    pub(super) lease: usize,
    pub(super) waited: Duration,
    pub(super) gate: Arc<Inner>,
}

impl GatePermit {
    /// How long the caller waited for it; zero if it was free.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Begins the hold anew for [`crate::GateStats::hold_estimate`]: what the holder did until now
    /// was waiting too, and says nothing about how soon a permit comes back. Its age as a leak and
    /// in the list of holders stays.
    pub fn restart_hold(&self) {
        let now = Instant::now();
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
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        let now = Instant::now();
        let (next, is_idle) = {
            let mut state = self.gate.state.lock();
            (state.give_back(self.lease, now), state.held() == 0)
        };
        self.gate.settle(next);
        if is_idle {
            self.gate.idle.notify_waiters();
        }
    }
}
