//! Gets a usable connection for one caller, or the reason why there is none.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use forebay_pooling::{Entered, GateError, Wait, trace_slow_wait};
use tokio::time::{Instant, sleep_until};

use crate::PgError;
use crate::lifecycle::lease::Lease;
use crate::lifecycle::line::Ticket;
use crate::lifecycle::outlook::Outlook;
use crate::lifecycle::shelf::{PgPermit, Taken};
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
    /// `note` is what its holders are listed with, as for `set_note` of a permit; `started` is now.
    pub(crate) async fn checkout(
        self: &Arc<Self>,
        caller: &'static Location<'static>,
        note: Option<&'static str>,
        freshness: Freshness,
        started: Instant,
    ) -> Result<Lease, PgError> {
        let entered = self.gate().enter(caller, note, started);
        match entered.map_err(|error| self.turned_away(error))? {
            Entered::In(permit) => match self.begin(permit, freshness) {
                // Most callers find an idle connection that was used a moment ago: no timer, no
                // span.
                Begin::Ready(lease) => Ok(lease),
                // On the heap, or every caller's future would have the size of this rare one.
                begin => {
                    let settled = self.settle(begin, freshness, started);
                    Box::pin(trace_slow_wait(self.name(), settled)).await
                }
            },
            Entered::Waiting(wait) => {
                let lease = pin!(async {
                    let permit = self.turn(wait).await?;
                    match self.begin(permit, freshness) {
                        Begin::Ready(lease) => Ok(lease),
                        begin => Box::pin(self.settle(begin, freshness, started)).await,
                    }
                });
                trace_slow_wait(self.name(), lease).await
            }
        }
    }

    /// Waits at the gate until it is this caller's turn, and no longer than that is of use.
    async fn turn(&self, mut wait: Wait<'_, Taken>) -> Result<PgPermit, PgError> {
        poll_fn(|context| {
            // What is there beats the news that nothing else will come.
            if let Poll::Ready(outcome) = Pin::new(&mut wait).poll(context) {
                return Poll::Ready(outcome.map_err(|error| self.turned_away(error)));
            }
            // It is in the queue, so the herald wakes it when this changes.
            match self.outlook() {
                Outlook::Hopeless(cause) => Poll::Ready(Err(cause)),
                Outlook::Fair | Outlook::FairUntil(_) => Poll::Pending,
            }
        })
        .await
    }

    /// How one who was let in goes on: with the connection that the holder before passed on, or
    /// with the idle one used last, if there is one.
    fn begin(self: &Arc<Self>, mut permit: PgPermit, freshness: Freshness) -> Begin {
        let now = permit.since();
        let lease = match permit.take_passed() {
            Some(connection) => Ok(Lease::new(connection, permit, Arc::clone(self), now)),
            None => self.take_idle(permit, now),
        };
        match lease {
            Ok(lease) if is_good(&lease, freshness) => {
                self.metrics().waited(lease.waited());
                Begin::Ready(lease)
            }
            Ok(lease) => Begin::With(lease),
            Err(permit) => Begin::Permitted(permit),
        }
    }

    async fn settle(
        self: &Arc<Self>,
        begin: Begin,
        freshness: Freshness,
        started: Instant,
    ) -> Result<Lease, PgError> {
        let deadline = self.acquire_deadline(started);
        // Around everything: a frozen server makes even the check of a connection hang.
        tokio::select! {
            // What is there beats the news that nothing else will come.
            biased;
            lease = self.find(begin, freshness) => {
                let mut lease = lease?;
                // To open or to check a connection took time that the next caller may not need.
                lease.restart_hold();
                self.metrics().waited(lease.since().saturating_duration_since(started));
                Ok(lease)
            }
            cause = self.hopeless() => Err(cause),
            () = sleep_until(deadline.instant()) => {
                self.counters().timed_out();
                Err(self.gave_up(started.elapsed()))
            }
        }
    }

    async fn find(self: &Arc<Self>, begin: Begin, freshness: Freshness) -> Result<Lease, PgError> {
        let mut permit = match begin {
            Begin::Ready(lease) => return Ok(lease),
            Begin::Permitted(permit) => permit,
            Begin::With(lease) => match prove(lease).await {
                Ok(lease) => return Ok(lease),
                Err(permit) => permit,
            },
        };
        let ticket = self.line().draw();
        // Each turn closes a connection found dead, so this ends with a new one at the latest.
        loop {
            let lease = match self.take_idle(permit, Instant::now()) {
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
    fn take_idle(self: &Arc<Self>, permit: PgPermit, now: Instant) -> Result<Lease, PgPermit> {
        if !self.line().is_empty() {
            return Err(permit);
        }
        match self.shelf().take(self.bb8()) {
            Some(connection) => Ok(Lease::new(connection, permit, Arc::clone(self), now)),
            None => Err(permit),
        }
    }

    /// Waits in the line for a connection to be opened or returned.
    async fn wait_for_connection(self: &Arc<Self>, permit: PgPermit, ticket: Ticket) -> Lease {
        let mut place = self.line().join(ticket);
        loop {
            tokio::select! {
                biased;
                connection = place.turn() => {
                    return Lease::new(connection, permit, Arc::clone(self), Instant::now());
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

/// What one who was let in has.
enum Begin {
    /// A connection.
    Ready(Lease),
    /// One that has to be checked.
    With(Lease),
    /// None.
    Permitted(PgPermit),
}

/// Whether the connection needs no check. One that is just opened has not been idle.
fn is_good(lease: &Lease, freshness: Freshness) -> bool {
    let is_trusted = freshness == Freshness::Recent || lease.is_new();
    is_trusted && !lease.is_dead() && lease.silent_for(lease.since()) < TRUSTED_FOR
}

/// The lease if its connection is alive, otherwise the permit for another one.
async fn prove(mut lease: Lease) -> Result<Lease, PgPermit> {
    if !lease.is_dead() && lease.is_alive().await { Ok(lease) } else { Err(lease.discard()) }
}
