//! The gate: who may use a connection now, who waits, who is turned away.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::Instant;

use crate::Deadline;

pub use holders::Holder;
use holders::Holders;

mod holders;

/// Size of a [`Gate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateConfig {
    /// Permits that may be held at once.
    pub permits: usize,
    /// Callers that may wait for one; one more is shed.
    pub waiting_max: usize,
    /// How long a caller may wait, if its own deadline is not nearer.
    pub timeout: Duration,
}

/// A bounded first-in-first-out queue in front of a limited resource.
///
/// A freed permit goes to the longest waiter, never to a newcomer, so no
/// caller starves. Clones share one queue.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

impl Gate {
    /// An open gate.
    pub fn new(config: GateConfig) -> Self {
        Self(Arc::new(Inner {
            config,
            semaphore: Arc::new(Semaphore::new(config.permits)),
            waiting: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            timeouts: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            released: Notify::new(),
            holders: Holders::new(),
        }))
    }

    /// Waits for a permit, in order, until the timeout of the gate or the deadline in scope.
    ///
    /// `caller` is recorded as the place that holds the permit.
    /// Cancel-safe: a dropped wait gives its place to the next one.
    ///
    /// # Errors
    /// [`GateError::Shed`] at once when too many wait already, [`GateError::Timeout`] when time
    /// ran out, [`GateError::Closed`] once [`Gate::close`] was called, also for those who wait.
    pub async fn acquire(
        &self,
        caller: &'static Location<'static>,
    ) -> Result<GatePermit, GateError> {
        match self.try_acquire(caller) {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => self.wait(caller).await,
            Err(error) => Err(error),
        }
    }

    /// A permit if one is free and nobody waits for it; `None` otherwise.
    ///
    /// # Errors
    /// [`GateError::Closed`] once [`Gate::close`] was called.
    pub fn try_acquire(
        &self,
        caller: &'static Location<'static>,
    ) -> Result<Option<GatePermit>, GateError> {
        match Arc::clone(&self.0.semaphore).try_acquire_owned() {
            Ok(permit) => Ok(Some(self.admit(permit, caller))),
            Err(TryAcquireError::NoPermits) => Ok(None),
            Err(TryAcquireError::Closed) => Err(GateError::Closed),
        }
    }

    /// Turns everyone away from now on: those who wait and those who come.
    pub fn close(&self) {
        self.0.semaphore.close();
    }

    /// Waits until every permit is back; `false` if `deadline` came first.
    pub async fn idle(&self, deadline: Deadline) -> bool {
        loop {
            let released = self.0.released.notified();
            tokio::pin!(released);
            // Registered before the check, or a release between the two would be missed.
            released.as_mut().enable();
            if self.0.held.load(Ordering::Acquire) == 0 {
                return true;
            }
            if tokio::time::timeout_at(deadline.instant(), released).await.is_err() {
                return self.0.held.load(Ordering::Acquire) == 0;
            }
        }
    }

    /// The state of the gate now.
    pub fn stats(&self) -> GateStats {
        GateStats {
            held: self.0.held.load(Ordering::Relaxed),
            permits: self.0.config.permits,
            waiting: self.0.waiting.load(Ordering::Relaxed),
            waiting_max: self.0.config.waiting_max,
            timeouts: self.0.timeouts.load(Ordering::Relaxed),
            shed: self.0.shed.load(Ordering::Relaxed),
        }
    }

    /// Who has held a permit for the longest time, at most `count` of them.
    pub fn oldest_holders(&self, count: usize) -> Vec<Holder> {
        self.0.holders.oldest(count)
    }

    async fn wait(&self, caller: &'static Location<'static>) -> Result<GatePermit, GateError> {
        let _waiting = self.join_queue()?;
        let started = Instant::now();
        let deadline = Deadline::within(self.0.config.timeout);
        let acquired = Arc::clone(&self.0.semaphore).acquire_owned();
        match tokio::time::timeout_at(deadline.instant(), acquired).await {
            Ok(Ok(permit)) => Ok(self.admit(permit, caller)),
            Ok(Err(AcquireError { .. })) => Err(GateError::Closed),
            Err(_elapsed) => {
                self.0.timeouts.fetch_add(1, Ordering::Relaxed);
                Err(GateError::Timeout { waited: started.elapsed() })
            }
        }
    }

    fn join_queue(&self) -> Result<Waiting<'_>, GateError> {
        let waiting_max = self.0.config.waiting_max;
        let join = |waiting| (waiting < waiting_max).then_some(waiting + 1);
        match self.0.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join) {
            Ok(_) => Ok(Waiting(&self.0.waiting)),
            Err(waiting) => {
                self.0.shed.fetch_add(1, Ordering::Relaxed);
                Err(GateError::Shed { waiting })
            }
        }
    }

    fn admit(
        &self,
        permit: OwnedSemaphorePermit,
        caller: &'static Location<'static>,
    ) -> GatePermit {
        self.0.held.fetch_add(1, Ordering::AcqRel);
        GatePermit {
            holder: self.0.holders.enter(caller),
            gate: Arc::clone(&self.0),
            _permit: permit,
        }
    }
}

/// The right to use one of the things behind a [`Gate`], given back on drop.
#[derive(Debug)]
pub struct GatePermit {
    holder: usize,
    gate: Arc<Inner>,
    // Dropped after `Drop::drop` ran, so whoever gets the place next finds the record cleared.
    _permit: OwnedSemaphorePermit,
}

impl Drop for GatePermit {
    fn drop(&mut self) {
        self.gate.holders.leave(self.holder);
        self.gate.held.fetch_sub(1, Ordering::AcqRel);
        self.gate.released.notify_waiters();
    }
}

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The queue is full.
    #[error("{waiting} callers wait already")]
    Shed {
        /// Callers that waited at that moment.
        waiting: usize,
    },
    /// No permit came in time.
    #[error("no permit came free in {} ms", waited.as_millis())]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
    },
    /// The gate is closed for good.
    #[error("the gate is closed")]
    Closed,
}

/// State of a [`Gate`] at one moment, with its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateStats {
    /// Permits held.
    pub held: usize,
    /// Permits there are.
    pub permits: usize,
    /// Callers waiting.
    pub waiting: usize,
    /// Callers that may wait.
    pub waiting_max: usize,
    /// Waits that ran out of time.
    pub timeouts: u64,
    /// Callers turned away because the queue was full.
    pub shed: u64,
}

#[derive(Debug)]
struct Inner {
    config: GateConfig,
    semaphore: Arc<Semaphore>,
    waiting: AtomicUsize,
    held: AtomicUsize,
    timeouts: AtomicU64,
    shed: AtomicU64,
    released: Notify,
    holders: Holders,
}

/// Counts one waiter out again, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
