//! Whether waiting for a connection is of any use.

use tokio::time::{Instant, sleep_until};

use crate::PgError;
use crate::pool::Shared;

/// What a caller without a connection may expect.
enum Outlook {
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

    fn outlook(&self) -> Outlook {
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
