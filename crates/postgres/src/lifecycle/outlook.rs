//! Whether waiting for a connection is of any use.

use std::sync::{Arc, Weak};

use forebay_pooling::Failures;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::PgError;
use crate::lifecycle::shelf::PgGate;
use crate::pool::Shared;

/// What a caller without a connection may expect.
pub(crate) enum Outlook {
    /// One comes, sooner or later.
    Fair,
    /// The server was there a moment ago and may be back before this instant.
    FairUntil(Instant),
    /// None comes, for this reason.
    Hopeless(PgError),
}

impl Shared {
    /// Ends once waiting is of no use, with the reason to tell.
    pub(crate) async fn hopeless(&self) -> PgError {
        // Before the first look, or what happens in between would go unnoticed.
        let mut draining = self.manager().draining();
        let mut failures = self.manager().outage().listen();
        let mut live = self.live().listen();
        loop {
            let until = match self.outlook() {
                Outlook::Hopeless(cause) => return cause,
                Outlook::FairUntil(until) => Some(until),
                Outlook::Fair => None,
            };
            let patience = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            // The senders live as long as the connection pool that the caller holds.
            tokio::select! {
                _ = draining.changed() => {}
                _ = failures.next() => {}
                _ = live.changed() => {}
                () = patience => {}
            }
        }
    }

    /// What a caller may expect now. Those who wait at the gate ask when [`Herald`] rouses them.
    pub(crate) fn outlook(&self) -> Outlook {
        if self.manager().is_draining() {
            return Outlook::Hopeless(PgError::Draining);
        }
        // A server that lets nobody in still serves the connections that we have.
        if self.live().count() > 0 {
            return Outlook::Fair;
        }
        let outage = self.manager().outage();
        let Some((cause, since)) = outage.cause().zip(outage.since()) else {
            return Outlook::Fair;
        };
        let until = since + self.outage_grace();
        let may_come_back = is_restart(&cause) && self.manager().created() > 0;
        if may_come_back && Instant::now() < until {
            Outlook::FairUntil(until)
        } else {
            Outlook::Hopeless(cause)
        }
    }
}

/// Looks after all who wait at the gate, so that a caller who only waits for its turn has no timer
/// and listens to nothing: one task ends the waits whose time is over, and has everyone ask for
/// the outlook once it is hopeless. It ends with this value.
#[derive(Debug)]
pub(crate) struct Herald(AbortHandle);

impl Herald {
    /// Starts listening, for as long as `shared` is there.
    pub(crate) fn start(shared: &Arc<Shared>) -> Self {
        let failures = shared.manager().outage().listen();
        let live = shared.live().listen();
        let gate = shared.gate().clone();
        let task = shared.runtime().spawn(announce(Arc::downgrade(shared), gate, failures, live));
        Self(task.abort_handle())
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn announce(
    weak: Weak<Shared>,
    gate: PgGate,
    mut failures: Failures<PgError>,
    mut live: watch::Receiver<usize>,
) {
    loop {
        let (next, until) = {
            let Some(shared) = weak.upgrade() else {
                return;
            };
            let until = match shared.outlook() {
                Outlook::Fair => None,
                Outlook::FairUntil(until) => Some(until),
                Outlook::Hopeless(_) => {
                    gate.rouse();
                    None
                }
            };
            (gate.expire_waits(), until)
        };
        let look_again = async {
            match next.into_iter().chain(until).min() {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = failures.next() => {}
            changed = live.changed() => if changed.is_err() { return },
            () = gate.earlier_deadline() => {}
            () = look_again => {}
        }
    }
}

/// Whether this is what a server looks like that is being restarted. Every other refusal is an
/// answer: it would be the same a moment later.
fn is_restart(cause: &PgError) -> bool {
    matches!(
        cause,
        PgError::Unreachable { .. }
            | PgError::ConnectionLost { .. }
            | PgError::Pooler {
                code: "server_unreachable" | "server_login_failed" | "server_login_retry",
                ..
            }
    )
}
