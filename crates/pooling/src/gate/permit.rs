//! A permit in the hands of a caller.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Inner;

/// The right to use one of the things behind a [`crate::Gate`], given back on drop.
#[derive(Debug)]
pub struct GatePermit<C = ()> {
    /// `None` once it is given back.
    lease: Option<usize>,
    /// From the holder before; nobody has taken it yet.
    passed: Option<C>,
    waited: Duration,
    since: Instant,
    gate: Arc<Inner<C>>,
}

impl<C> GatePermit<C> {
    pub(super) fn new(
        gate: &Arc<Inner<C>>,
        lease: usize,
        passed: Option<C>,
        waited: Duration,
        since: Instant,
    ) -> Self {
        let gate = Arc::clone(gate);
        Self { lease: Some(lease), passed, waited, since, gate }
    }

    /// Gives back what a waiter was given that went away before it knew.
    pub(super) fn unused(gate: &Arc<Inner<C>>, lease: usize, passed: Option<C>) {
        Self::new(gate, lease, passed, Duration::ZERO, Instant::now()).disregard_hold();
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
        if let Some(lease) = self.lease {
            self.gate.state.lock().restart_hold(lease, now);
        }
    }

    /// Takes the hold out of [`crate::GateStats::hold_estimate`]: its holder went away, and what is
    /// cleaned after it says nothing about how long the next one holds.
    pub fn disregard_hold(&self) {
        if let Some(lease) = self.lease {
            self.gate.state.lock().disregard_hold(lease);
        }
    }

    /// Says what the holder does with it from now on: the summary of a statement, never its
    /// values. Shown with the longest holders and in the report of a leak.
    pub fn set_note(&self, note: Option<&'static str>) {
        if let Some(lease) = self.lease {
            self.gate.state.lock().note(lease, note);
        }
    }

    /// What the holder before passed on, once.
    pub fn take_passed(&mut self) -> Option<C> {
        self.passed.take()
    }

    /// Gives it back, as a drop does; `now` spares another look at the clock.
    pub fn give_back(mut self, now: Instant) {
        self.end(now);
    }

    /// Gives it back together with `thing`, which the next waiter finds with its permit. A waiter
    /// that goes away leaves `thing` to the one after it; with nobody left it is dropped before
    /// the permit is free.
    ///
    /// # Errors
    /// Both, when nobody waits.
    pub fn pass_on(mut self, thing: C, now: Instant) -> Result<(), (Self, C)> {
        let mut state = self.gate.state.lock();
        if !state.has_waiters() {
            drop(state);
            return Err((self, thing));
        }
        let next = self.lease.take().map(|lease| state.give_back(lease, Some(thing), now));
        drop(state);
        if let Some(next) = next {
            self.gate.settle(next, false);
        }
        Ok(())
    }

    fn end(&mut self, now: Instant) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        // Where nobody waits for it, it has to be back before the permit is.
        if self.passed.is_some() && !self.gate.state.lock().has_waiters() {
            self.passed = None;
        }
        let (next, is_idle) = {
            let mut state = self.gate.state.lock();
            let next = state.give_back(lease, self.passed.take(), now);
            (next, state.is_idle_asked_for())
        };
        self.gate.settle(next, is_idle);
    }
}

impl<C> Drop for GatePermit<C> {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.end(Instant::now());
        }
    }
}
