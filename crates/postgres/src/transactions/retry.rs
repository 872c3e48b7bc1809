//! Whether work may be done once more, and after which pause.

use std::time::Duration;

use forebay_pooling::{Backoff, Deadline};
use tokio::time::Instant;

use crate::PgError;
use crate::pool::Shared;

/// Pauses before work is done once more. The first is short: one connection that died says little
/// about the next one.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(500));

/// Tries of one piece of work, the first included. Its connection may be lost, and so may the one
/// after it when a server dies and comes back.
pub(crate) const ATTEMPTS_MAX: u32 = 5;

/// When work may be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// When the server has undone it.
    Undone,
    /// Also when it may have been done.
    Always,
}

impl Repeat {
    /// Whether work that failed for this reason may be done again.
    pub(crate) fn allows(self, why: Why) -> bool {
        match why {
            Why::NotConnected | Why::Lost(_) | Why::Conflict | Why::Demoted => true,
            Why::UnknownOutcome => self == Self::Always,
        }
    }
}

/// Why work may succeed when it is done once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// It has not begun: there was no connection.
    NotConnected,
    /// Its connection was lost before it could take effect.
    Lost(Loss),
    /// It ran into a concurrent transaction and was undone.
    Conflict,
    /// The server takes no writes any more. Another one may, and the router finds it.
    Demoted,
    /// It may have taken effect already.
    UnknownOutcome,
}

/// Whether a connection was lost through no fault of what it carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nobody knows: it may have been the work itself.
    Unexplained,
    /// An administrator ended the session, and the server said so.
    ByAdmin,
}

impl Loss {
    /// What `error` says about the end of its session.
    pub(crate) fn of(error: &PgError) -> Self {
        if error.is_by_admin() { Self::ByAdmin } else { Self::Unexplained }
    }
}

impl Why {
    /// Why a transaction that could not be opened or ended with `error` may be tried again.
    pub(crate) fn of(error: &PgError) -> Option<Self> {
        match error {
            PgError::Unreachable { .. } | PgError::ServerSlots { .. } | PgError::Pooler { .. } => {
                Some(Self::NotConnected)
            }
            PgError::ConnectionLost { .. } => Some(Self::lost(error)),
            PgError::Serialization { .. } => Some(Self::Conflict),
            PgError::UnknownOutcome { .. } => Some(Self::UnknownOutcome),
            PgError::ReadOnly { .. } => Some(Self::Demoted),
            // The gate has already made the caller wait as long as it may, or nothing will change.
            PgError::Shed { .. }
            | PgError::Timeout { .. }
            | PgError::Draining
            | PgError::Auth { .. }
            | PgError::UnknownDatabase { .. }
            | PgError::Tls { .. }
            | PgError::InvalidUrl { .. }
            | PgError::StatementTimeout { .. }
            | PgError::LockTimeout { .. }
            | PgError::UniqueViolation { .. }
            | PgError::ForeignKeyViolation { .. }
            | PgError::CheckViolation { .. }
            | PgError::TransactionFailed
            | PgError::RowCount { .. }
            | PgError::SessionStatement { .. }
            | PgError::CustomType { .. }
            | PgError::Database { .. }
            | PgError::Mismatch { .. } => None,
        }
    }

    /// Its connection was lost with `error`, before it could take effect.
    pub(crate) fn lost(error: &PgError) -> Self {
        Self::Lost(Loss::of(error))
    }

    /// Whether the work has used up one of its tries. Sessions that an administrator ends say nothing
    /// about it (ADR 0006).
    fn counts(self) -> bool {
        match self {
            Self::Lost(loss) => loss != Loss::ByAdmin,
            // Each of these may have written. Whoever asks is told so after the usual number of tries,
            // and not when the deadline or a lock that the last one still holds speaks first.
            Self::UnknownOutcome => true,
            Self::NotConnected | Self::Conflict | Self::Demoted => true,
        }
    }
}

/// The tries of one piece of work.
pub(crate) struct Tries<'a> {
    shared: &'a Shared,
    max: u32,
    failed: u32,
    /// How many of those count against `max`.
    counted: u32,
    deadline: Deadline,
}

impl<'a> Tries<'a> {
    /// At most `max` tries, the first included, until the deadline in scope.
    pub(crate) fn new(shared: &'a Shared, max: u32) -> Self {
        Self::from(Instant::now(), shared, max)
    }

    /// As [`Tries::new`], for one who has just looked at the clock.
    pub(crate) fn from(now: Instant, shared: &'a Shared, max: u32) -> Self {
        let deadline = Deadline::within_from(now, shared.patience());
        Self { shared, max, failed: 0, counted: 0, deadline }
    }

    /// Whether a try that failed for this reason may be followed by another one. Without a router
    /// nobody looks for a server that takes writes.
    pub(crate) fn allows(&self, when: Repeat, why: Why) -> bool {
        when.allows(why) && (why != Why::Demoted || self.shared.router().is_some())
    }

    /// A try succeeded.
    pub(crate) fn succeeded(&self) {
        self.shared.retries().succeeded();
    }

    /// A try failed with the connection that many shared. That is one loss, so none of them pays
    /// for the next try; a server that fails everything does not get this far, because the
    /// connection to share could not be opened.
    pub(crate) fn lost_with_others(&mut self) {
        self.failed += 1;
        self.counted += 1;
    }

    /// After a try that failed for this reason: waits a moment and answers whether there may be
    /// another one.
    pub(crate) async fn again(&mut self, why: Why) -> bool {
        self.failed += 1;
        self.counted += u32::from(why.counts());
        let pause = BACKOFF.delay(self.failed);
        let refusal = if self.counted >= self.max {
            Some("tries")
        } else if pause >= self.deadline.remaining() {
            Some("deadline")
        } else {
            // Asked last, because a yes is paid for.
            (!self.shared.retries().may_retry()).then_some("budget")
        };
        match refusal {
            None => tokio::time::sleep(pause).await,
            Some(used_up) => {
                tracing::debug!(used_up, tries = self.failed, "work is not done once more");
            }
        }
        refusal.is_none()
    }
}
