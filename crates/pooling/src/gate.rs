//! The gate: who may use a connection now, who waits, who is turned away.

use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Deadline;

pub use config::GateConfig;
pub use error::GateError;
use leases::Caller;
pub use leases::Holder;
pub use permit::GatePermit;
use state::{Next, State};
pub use stats::GateStats;
pub use wait::Wait;

mod config;
mod error;
mod forecast;
mod leases;
mod permit;
mod queue;
mod state;
mod stats;
mod wait;

/// A bounded queue in front of a limited resource. Clones share one queue.
///
/// `C` is what a holder may pass on with its permit ([`GatePermit::pass_on`]), so that the next one
/// need not look for it where both have it from.
///
/// - Within a [`crate::Priority`] callers are served strictly in the order in
///   which they came: a freed permit is handed to the longest waiter, and a
///   newcomer never passes one. So no caller starves.
/// - While both wait, Interactive gets eight permits for each one of Batch.
///   Admin goes first, and may take the permits reserved for it.
/// - A caller whose turn would come after its deadline is told at once. The
///   estimate is that of [`GateStats::hold_estimate`]: it needs 16 holds, and
///   whoever would be next in line may always wait.
#[derive(Debug)]
pub struct Gate<C = ()>(Arc<Inner<C>>);

impl Gate {
    /// An open gate, whose holders pass nothing on.
    pub fn new(config: GateConfig) -> Self {
        Self::passing_on(config)
    }
}

impl<C> Gate<C> {
    /// An open gate.
    pub fn passing_on(config: GateConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            state: Mutex::new(State::new(config)),
            idle: Notify::new(),
            alarm: Notify::new(),
        }))
    }

    /// Waits for a permit, in order, until the timeout of the gate or the deadline in scope.
    ///
    /// `caller` is recorded as the place that holds the permit.
    /// Cancel-safe: a dropped wait gives its place, and a permit it was just handed, to the next.
    ///
    /// # Errors
    /// [`GateError::Shed`] at once when too many wait already or the turn of this caller would
    /// come too late, [`GateError::Timeout`] when time ran out, [`GateError::Closed`] once
    /// [`Gate::close`] was called, also for those who wait.
    pub async fn acquire(
        &self,
        caller: &'static Location<'static>,
    ) -> Result<GatePermit<C>, GateError> {
        match self.enter(caller, None, Instant::now())? {
            Entered::In(permit) => Ok(permit),
            Entered::Waiting(mut wait) => {
                match tokio::time::timeout_at(wait.deadline().instant(), &mut wait).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) => wait.expire(),
                }
            }
        }
    }

    /// A permit if there is one for this caller, otherwise a place in the queue: what
    /// [`Gate::acquire`] is made of, for one who has more to look at while it waits.
    ///
    /// `note` is that of [`GatePermit::set_note`], and `now` spares another look at the clock.
    ///
    /// # Errors
    /// [`GateError::Shed`] and [`GateError::Closed`], as [`Gate::acquire`].
    pub fn enter(
        &self,
        caller: &'static Location<'static>,
        note: Option<&'static str>,
        now: Instant,
    ) -> Result<Entered<'_, C>, GateError> {
        let caller = Caller::current(caller, note);
        // One lock for both: a permit freed between two would be lost to this caller, and a
        // newcomer might pass it.
        let mut state = self.0.state.lock();
        if let Some(lease) = state.enter(caller, now)? {
            drop(state);
            return Ok(Entered::In(self.permit(lease, now)));
        }
        let deadline = Deadline::within_from(now, self.0.config.timeout);
        let (entry, is_earliest) = state.join(caller, deadline.instant(), now)?;
        drop(state);
        if is_earliest {
            self.0.alarm.notify_one();
        }
        Ok(Entered::Waiting(Wait::new(&self.0, entry, now, deadline)))
    }

    /// A permit if one is free and nobody of this priority waits for it; `None` otherwise.
    ///
    /// # Errors
    /// [`GateError::Closed`] once [`Gate::close`] was called.
    pub fn try_acquire(
        &self,
        caller: &'static Location<'static>,
    ) -> Result<Option<GatePermit<C>>, GateError> {
        let caller = Caller::current(caller, None);
        let now = Instant::now();
        let lease = self.0.state.lock().enter(caller, now)?;
        Ok(lease.map(|lease| self.permit(lease, now)))
    }

    /// Turns everyone away from now on: those who wait and those who come.
    pub fn close(&self) {
        let wakers = self.0.state.lock().close();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends the waits whose time is over, and returns when to call it again. An owner that does
    /// so, and whenever [`Gate::earlier_deadline`] tells it to, spares each waiter a timer.
    pub fn expire_waits(&self) -> Option<Instant> {
        let (wakers, next) = self.0.state.lock().expire_waits(Instant::now());
        wakers.into_iter().for_each(Waker::wake);
        next
    }

    /// Waits until somebody waits whose time is over before [`Gate::expire_waits`] is called again.
    pub async fn earlier_deadline(&self) {
        self.0.alarm.notified().await;
    }

    /// Has everyone who waits look at the world again, and keeps their places: for what a
    /// [`Wait`] is polled together with, when that is told to nobody in particular.
    pub fn rouse(&self) {
        let wakers = self.0.state.lock().rouse();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Changes how many permits may be held. More of them go to those who wait, at once. Fewer
    /// take nothing from anyone: nobody is let in until enough came back.
    pub fn resize(&self, permits: usize) {
        self.0.state.lock().resize(permits);
        let now = Instant::now();
        loop {
            let (before, next, after) = {
                let mut state = self.0.state.lock();
                let before = state.held();
                let next = state.hand_on(None, now);
                (before, next, state.held())
            };
            self.0.settle(next, false);
            if before == after {
                return;
            }
        }
    }

    /// Permits that may be held now.
    pub fn permits(&self) -> usize {
        self.0.state.lock().permits()
    }

    /// Waits until every permit is back; `false` if `deadline` came first.
    pub async fn idle(&self, deadline: Deadline) -> bool {
        let _asks = Asks::new(&self.0);
        loop {
            let idle = self.0.idle.notified();
            tokio::pin!(idle);
            // Registered before the check, or a release between the two would be missed.
            idle.as_mut().enable();
            if self.0.state.lock().held() == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline.instant(), idle).await.is_err() {
                return self.0.state.lock().held() == 0;
            }
        }
    }

    /// The state of the gate now.
    pub fn stats(&self) -> GateStats {
        self.0.state.lock().stats()
    }

    /// Who has held a permit for the longest time, at most `count` of them.
    pub fn oldest_holders(&self, count: usize) -> Vec<Holder> {
        self.0.state.lock().oldest_holders(count)
    }

    /// Warns of every permit held for longer than [`GateConfig::leak_after`], once each, and
    /// returns how many were new. The owner calls it at an interval of about a second, from the
    /// task that looks after its connections; `name` is the connection pool's.
    pub fn report_leaks(&self, name: &str) -> usize {
        let leaked = self.0.state.lock().take_leaked();
        for holder in &leaked {
            tracing::warn!(
                pool = name,
                file = holder.location.file(),
                line = holder.location.line(),
                age_ms = u64::try_from(holder.held.as_millis()).unwrap_or(u64::MAX),
                priority = holder.priority.as_str(),
                trace_id = holder.trace.map(tracing::field::display),
                note = holder.note,
                "a connection is held for too long"
            );
        }
        leaked.len()
    }

    fn permit(&self, lease: usize, now: Instant) -> GatePermit<C> {
        GatePermit::new(&self.0, lease, None, Duration::ZERO, now)
    }
}

/// What a caller finds at a [`Gate`].
#[derive(Debug)]
pub enum Entered<'a, C = ()> {
    /// A permit.
    In(GatePermit<C>),
    /// A place in the queue.
    Waiting(Wait<'a, C>),
}

impl<C> Clone for Gate<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<C> {
    config: GateConfig,
    state: Mutex<State<C>>,
    /// Told whenever the last permit came back while somebody asks.
    idle: Notify,
    /// Told whenever a deadline is nearer than all that are looked after.
    alarm: Notify,
}

/// Counts one who waits until every permit is back.
struct Asks<'a, C>(&'a Inner<C>);

impl<'a, C> Asks<'a, C> {
    fn new(gate: &'a Inner<C>) -> Self {
        gate.state.lock().ask_for_idle();
        Self(gate)
    }
}

impl<C> Drop for Asks<'_, C> {
    fn drop(&mut self) {
        self.0.state.lock().no_longer_ask_for_idle();
    }
}

impl<C> Inner<C> {
    /// Wakes whoever was handed a permit, outside the lock that it will take first, or those who
    /// wait until all are back.
    fn settle(&self, next: Next<C>, is_idle: bool) {
        let Next { waker, left } = next;
        drop(left);
        if let Some(waker) = waker {
            waker.wake();
        }
        if is_idle {
            self.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
