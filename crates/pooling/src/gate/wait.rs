//! One wait for a permit.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::queue::Turn;
use super::{GateError, GatePermit, Inner};
use crate::Deadline;

/// A place in the queue of a [`crate::Gate`], and the permit when its turn comes. Dropped, it is
/// free again, and a permit given to it goes on.
///
/// Its time is over at [`Wait::deadline`]. Either the owner of the gate looks after that
/// ([`crate::Gate::expire_waits`]), or whoever polls the wait calls [`Wait::expire`] then.
#[derive(Debug)]
pub struct Wait<'a, C = ()> {
    gate: &'a Arc<Inner<C>>,
    /// `None` once the wait is over.
    entry: Option<usize>,
    since: Instant,
    deadline: Deadline,
}

impl<'a, C> Wait<'a, C> {
    pub(super) fn new(
        gate: &'a Arc<Inner<C>>,
        entry: usize,
        since: Instant,
        deadline: Deadline,
    ) -> Self {
        Self { gate, entry: Some(entry), since, deadline }
    }

    /// Until when it may last: the timeout of the gate or the deadline that was in scope.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ends a wait whose time is over. It still takes a permit given to it at the last moment.
    ///
    /// # Errors
    /// [`GateError::Timeout`] in general, [`GateError::Closed`] if the gate closed just now.
    pub fn expire(&mut self) -> Result<GatePermit<C>, GateError> {
        let waited = self.since.elapsed();
        let turn = self.entry.take().map(|entry| self.gate.state.lock().expire(entry));
        match turn {
            Some(Turn::Given(lease, passed)) => Ok(self.permit(lease, passed)),
            Some(Turn::Closed) => Err(GateError::Closed),
            Some(Turn::Waiting(_) | Turn::Expired) | None => Err(GateError::Timeout { waited }),
        }
    }

    fn permit(&self, lease: usize, passed: Option<C>) -> GatePermit<C> {
        let now = Instant::now();
        let waited = now.saturating_duration_since(self.since);
        GatePermit::new(self.gate, lease, passed, waited, now)
    }
}

impl<C> Future for Wait<'_, C> {
    type Output = Result<GatePermit<C>, GateError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(entry) = self.entry else {
            return Poll::Pending;
        };
        let mut waker = Some(context.waker().clone());
        let turn = {
            let mut state = self.gate.state.lock();
            if let Turn::Waiting(earlier) = state.turn(entry) {
                // The earlier one is dropped after the lock: with it may go a task, and with
                // that a permit of this gate.
                std::mem::swap(earlier, &mut waker);
                return Poll::Pending;
            }
            state.leave_queue(entry)
        };
        self.entry = None;
        match turn {
            Turn::Given(lease, passed) => Poll::Ready(Ok(self.permit(lease, passed))),
            Turn::Expired => Poll::Ready(Err(GateError::Timeout { waited: self.since.elapsed() })),
            Turn::Closed => Poll::Ready(Err(GateError::Closed)),
            Turn::Waiting(_) => Poll::Pending,
        }
    }
}

impl<C> Drop for Wait<'_, C> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry {
            // What it would have found is dropped after the lock as well.
            let turn = self.gate.state.lock().cancel(entry);
            if let Turn::Given(lease, passed) = turn {
                GatePermit::unused(self.gate, lease, passed);
            }
        }
    }
}
