//! Gets a usable connection for one caller, or the reason why there is none.

use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::{GateError, GatePermit, trace_slow_wait};
use tokio::time::Instant;

use crate::PgError;
use crate::lease::Lease;
use crate::line::Ticket;
use crate::pool::Shared;

/// A connection used within this time is taken to be alive. Checking every time would cost a round
/// trip per statement; a statement that finds it dead after all is repeated or says so.
const TRUSTED_FOR: Duration = Duration::from_millis(500);
/// Pause after which a caller in the line asks bb8 once more. It bounds how long a connection can
/// lie idle, or a free place be unused, because a wake-up went to somebody else.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// How many holders of connections an error names.
const HOLDERS_NAMED: usize = 3;

/// How sure a caller must be that the connection is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Checked if nobody used it lately.
    Recent,
    /// Checked in any case.
    Proven,
}

impl Shared {
    /// Waits in order for a connection, until the acquire timeout or the deadline in scope.
    pub(crate) async fn checkout(
        self: &Arc<Self>,
        caller: &'static Location<'static>,
        freshness: Freshness,
    ) -> Result<Lease, PgError> {
        let permit = match self.gate().try_acquire(caller) {
            Ok(permit) => permit,
            Err(error) => return Err(self.turned_away(error)),
        };
        // Most callers find an idle connection that was used a moment ago: no timer, no span.
        let begin = match permit.map(|permit| self.take_idle(permit)) {
            Some(Ok(lease)) if is_good(&lease, freshness) => {
                self.metrics().waited(Duration::ZERO);
                return Ok(lease);
            }
            Some(Ok(lease)) => Begin::With(Box::new(lease)),
            Some(Err(permit)) => Begin::Permitted(permit),
            None => Begin::Queue(caller),
        };
        // On the heap, or every caller's future would have the size of this rare one.
        Box::pin(trace_slow_wait(self.name(), self.settle(begin, freshness))).await
    }

    async fn settle(
        self: &Arc<Self>,
        begin: Begin,
        freshness: Freshness,
    ) -> Result<Lease, PgError> {
        let started = Instant::now();
        let deadline = self.acquire_deadline();
        // Around everything: a frozen server makes even the check of a connection hang, and who
        // waits for a permit is as much concerned by an outage as who waits for a connection.
        tokio::select! {
            // What is there beats the news that nothing else will come.
            biased;
            lease = self.find(begin, freshness) => {
                let lease = lease?;
                // To open or to check a connection took time that the next caller may not need.
                lease.restart_hold();
                self.metrics().waited(started.elapsed());
                Ok(lease)
            }
            cause = self.hopeless() => Err(cause),
            () = tokio::time::sleep_until(deadline.instant()) => {
                self.counters().timed_out();
                Err(self.gave_up(started.elapsed()))
            }
        }
    }

    async fn find(self: &Arc<Self>, begin: Begin, freshness: Freshness) -> Result<Lease, PgError> {
        let mut permit = match begin {
            Begin::Queue(caller) => {
                self.gate().acquire(caller).await.map_err(|error| self.turned_away(error))?
            }
            Begin::Permitted(permit) => permit,
            Begin::With(lease) => match prove(*lease).await {
                Ok(lease) => return Ok(lease),
                Err(permit) => permit,
            },
        };
        let ticket = self.line().draw();
        // Each turn closes a connection found dead, so this ends with a new one at the latest.
        loop {
            let lease = match self.take_idle(permit) {
                Ok(lease) => lease,
                Err(permit) => self.wait_for_connection(permit, ticket).await,
            };
            if is_good(&lease, freshness) {
                return Ok(lease);
            }
            match prove(lease).await {
                Ok(lease) => return Ok(lease),
                Err(again) => permit = again,
            }
        }
    }

    /// An idle connection, if there is one that nobody waits for.
    fn take_idle(self: &Arc<Self>, permit: GatePermit) -> Result<Lease, GatePermit> {
        if !self.line().is_empty() {
            return Err(permit);
        }
        match self.shelf().take(self.bb8()) {
            Some(connection) => Ok(Lease::new(connection, permit, Arc::clone(self))),
            None => Err(permit),
        }
    }

    /// Waits in the line for a connection to be opened or returned.
    async fn wait_for_connection(self: &Arc<Self>, permit: GatePermit, ticket: Ticket) -> Lease {
        let mut place = self.line().join(ticket);
        loop {
            tokio::select! {
                biased;
                connection = place.turn() => {
                    return Lease::new(connection, permit, Arc::clone(self));
                }
                // Asking is also what makes bb8 open one, if there may be more.
                Ok(connection) = self.bb8().get_owned() => {
                    // With nobody in the line it has just been this caller's turn.
                    drop(self.line().serve(connection));
                }
                // An attempt to open one may have failed, or bb8 may have woken one of two.
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// What to tell a caller that got no connection in time.
    pub(crate) fn gave_up(&self, waited: Duration) -> PgError {
        if let Some(cause) = self.manager().outage().cause() {
            return cause;
        }
        if self.live().count() == 0 {
            let message = format!("no answer in {} ms", waited.as_millis());
            let error = io::Error::new(io::ErrorKind::TimedOut, message);
            return self.manager().connector().unreachable(error);
        }
        PgError::Timeout {
            waited,
            in_use: self.gate().stats().held,
            limbo: self.counters().limbo(),
            holders: self.gate().oldest_holders(HOLDERS_NAMED),
        }
    }

    /// What a refusal of the gate means to a caller.
    fn turned_away(&self, error: GateError) -> PgError {
        match error {
            GateError::Shed { waiting, predicted } => PgError::Shed { waiting, predicted },
            GateError::Timeout { waited } => self.gave_up(waited),
            GateError::Closed => PgError::Draining,
        }
    }
}

/// Where a slow checkout takes over.
enum Begin {
    /// At the end of the queue.
    Queue(&'static Location<'static>),
    /// Let in, without a connection.
    Permitted(GatePermit),
    /// With a connection that has to be checked.
    With(Box<Lease>),
}

/// Whether the connection needs no check. One that is just opened has not been idle.
fn is_good(lease: &Lease, freshness: Freshness) -> bool {
    let is_trusted = freshness == Freshness::Recent || lease.is_new();
    is_trusted && !lease.is_dead() && lease.silent_for() < TRUSTED_FOR
}

/// The lease if its connection is alive, otherwise the permit for another one.
async fn prove(mut lease: Lease) -> Result<Lease, GatePermit> {
    if !lease.is_dead() && lease.is_alive().await { Ok(lease) } else { Err(lease.discard()) }
}
