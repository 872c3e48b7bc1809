//! Gets a usable connection for one caller, or the reason why there is none.

use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use bb8_postgres::bb8::RunError;
use forebay_pooling::GatePermit;
use futures_util::FutureExt;
use tokio::time::Instant;
use tracing::Instrument;

use crate::PgError;
use crate::lease::Lease;
use crate::pool::Shared;

/// A connection used within this time is taken to be alive. Checking every time would cost a round
/// trip per statement; a statement that finds it dead after all is repeated or says so.
const TRUSTED_FOR: Duration = Duration::from_millis(500);
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
            Err(error) => return Err(PgError::from_gate(error, Vec::new)),
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
        let settling = Box::pin(self.settle(begin, freshness));
        settling.instrument(tracing::info_span!("postgres.acquire")).await
    }

    async fn settle(
        self: &Arc<Self>,
        begin: Begin,
        freshness: Freshness,
    ) -> Result<Lease, PgError> {
        let started = Instant::now();
        let deadline = self.acquire_deadline();
        let lease = self.find(begin, freshness);
        // Around everything: a frozen server makes even the check of a connection hang.
        match tokio::time::timeout_at(deadline.instant(), lease).await {
            Ok(lease) => {
                let lease = lease?;
                self.metrics().waited(started.elapsed());
                Ok(lease)
            }
            Err(_elapsed) => Err(self.gave_up(started)),
        }
    }

    async fn find(self: &Arc<Self>, begin: Begin, freshness: Freshness) -> Result<Lease, PgError> {
        let mut permit = match begin {
            Begin::Queue(caller) => self.gate().acquire(caller).await.map_err(|error| {
                PgError::from_gate(error, || self.gate().oldest_holders(HOLDERS_NAMED))
            })?,
            Begin::Permitted(permit) => permit,
            Begin::With(lease) => match prove(*lease).await {
                Ok(lease) => return Ok(lease),
                Err(permit) => permit,
            },
        };
        // Each turn closes a connection found dead, so this ends with a new one at the latest.
        loop {
            let lease = match self.take_idle(permit) {
                Ok(lease) => lease,
                Err(permit) => self.wait_for_connection(permit).await?,
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

    /// An idle connection if there is one now; otherwise bb8 has been told to open one.
    fn take_idle(self: &Arc<Self>, permit: GatePermit) -> Result<Lease, GatePermit> {
        match self.bb8().get_owned().now_or_never() {
            Some(Ok(connection)) => Ok(Lease::new(connection, permit, Arc::clone(self))),
            // bb8 gives no errors of its own, and its timeout is longer than any of ours.
            Some(Err(_)) | None => Err(permit),
        }
    }

    /// Waits for a connection to be opened or returned, or for the news that none can be opened.
    async fn wait_for_connection(self: &Arc<Self>, permit: GatePermit) -> Result<Lease, PgError> {
        // Before bb8 is asked, or a failure in between would go unnoticed.
        let mut failures = self.manager().outage().listen();
        let connection = self.bb8().get_owned();
        tokio::pin!(connection);
        loop {
            tokio::select! {
                // A connection beats the news that another attempt failed.
                biased;
                got = &mut connection => {
                    return Ok(Lease::new(got.map_err(from_bb8)?, permit, Arc::clone(self)));
                }
                cause = failures.next() => {
                    if !self.may_still_come(&cause) {
                        return Err(cause);
                    }
                }
            }
        }
    }

    /// Whether waiting makes sense although a connection could not be opened: a server that is
    /// full still serves the connections that we have, and they come back.
    fn may_still_come(&self, cause: &PgError) -> bool {
        matches!(cause, PgError::ServerSlots { .. }) && self.bb8().state().connections > 0
    }

    /// What to tell a caller that got no connection in time.
    fn gave_up(&self, started: Instant) -> PgError {
        self.counters().timed_out();
        let waited = started.elapsed();
        if let Some(cause) = self.manager().outage().cause() {
            return cause;
        }
        if self.bb8().state().connections == 0 {
            let message = format!("no answer in {} ms", waited.as_millis());
            let error = io::Error::new(io::ErrorKind::TimedOut, message);
            return self.manager().connector().unreachable(error);
        }
        PgError::Timeout { waited, holders: self.gate().oldest_holders(HOLDERS_NAMED) }
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
    is_trusted && !lease.is_dead() && lease.idle_for() < TRUSTED_FOR
}

/// The lease if its connection is alive, otherwise the permit for another one.
async fn prove(mut lease: Lease) -> Result<Lease, GatePermit> {
    if !lease.is_dead() && lease.is_alive().await { Ok(lease) } else { Err(lease.discard()) }
}

fn from_bb8(error: RunError<PgError>) -> PgError {
    match error {
        RunError::User(error) => error,
        RunError::TimedOut => PgError::Timeout { waited: Duration::ZERO, holders: Vec::new() },
    }
}
