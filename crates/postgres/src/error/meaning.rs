//! What an error means to whoever got it.

use std::time::Duration;

use tokio_postgres::error::DbError;

use super::PgError;
use super::sqlstate::ADMIN_SHUTDOWN;

impl PgError {
    /// Whether Postgres cannot serve now, whatever the statement: a gRPC service answers UNAVAILABLE.
    ///
    /// [`PgError::UnknownOutcome`] is among them; whether a repetition is safe is for the caller to know.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Shed { .. }
            | Self::Timeout { .. }
            | Self::Draining
            | Self::Unreachable { .. }
            | Self::ServerSlots { .. }
            | Self::Pooler { .. }
            | Self::Auth { .. }
            | Self::UnknownDatabase { .. }
            | Self::Tls { .. }
            | Self::ConnectionLost { .. }
            | Self::UnknownOutcome { .. }
            | Self::ReadOnly { .. } => true,
            Self::InvalidUrl { .. }
            | Self::StatementTimeout { .. }
            | Self::LockTimeout { .. }
            | Self::UniqueViolation { .. }
            | Self::ForeignKeyViolation { .. }
            | Self::CheckViolation { .. }
            | Self::Serialization { .. }
            | Self::TransactionFailed
            | Self::RowCount { .. }
            | Self::SessionStatement { .. }
            | Self::CustomType { .. }
            | Self::Database { .. }
            | Self::Mismatch { .. } => false,
        }
    }

    /// When a repetition may succeed; `None` when it would fail again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            // Work ends soon, or another transaction does.
            Self::Shed { .. } | Self::Serialization { .. } | Self::LockTimeout { .. } => {
                Some(Duration::from_millis(100))
            }
            // The server or its operator needs a moment.
            Self::Timeout { .. }
            | Self::Draining
            | Self::Unreachable { .. }
            | Self::ServerSlots { .. }
            | Self::Pooler { .. }
            | Self::ConnectionLost { .. }
            | Self::UnknownOutcome { .. }
            | Self::ReadOnly { .. } => Some(Duration::from_secs(1)),
            // A person has to act.
            Self::Auth { .. } | Self::UnknownDatabase { .. } | Self::Tls { .. } => {
                Some(Duration::from_secs(10))
            }
            Self::InvalidUrl { .. }
            | Self::StatementTimeout { .. }
            | Self::UniqueViolation { .. }
            | Self::ForeignKeyViolation { .. }
            | Self::CheckViolation { .. }
            | Self::TransactionFailed
            | Self::RowCount { .. }
            | Self::SessionStatement { .. }
            | Self::CustomType { .. }
            | Self::Database { .. }
            | Self::Mismatch { .. } => None,
        }
    }

    /// The SQLSTATE that the server sent, if this error began with one.
    pub fn sqlstate(&self) -> Option<&str> {
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<DbError>() {
                return Some(error.code().code());
            }
            next = error.source();
        }
        None
    }

    /// Whether an administrator ended the session, and the server said so.
    pub(crate) fn is_by_admin(&self) -> bool {
        self.sqlstate() == Some(ADMIN_SHUTDOWN)
    }

    /// A short stable name, for `error.type` in spans and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "invalid_url",
            Self::Shed { .. } => "shed",
            Self::Timeout { .. } => "acquire_timeout",
            Self::Draining => "draining",
            Self::Unreachable { .. } => "unreachable",
            Self::ServerSlots { .. } => "server_slots",
            Self::Pooler { .. } => "pooler",
            Self::Auth { .. } => "auth",
            Self::UnknownDatabase { .. } => "unknown_database",
            Self::Tls { .. } => "tls",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::UnknownOutcome { .. } => "unknown_outcome",
            Self::ReadOnly { .. } => "read_only",
            Self::StatementTimeout { .. } => "statement_timeout",
            Self::LockTimeout { .. } => "lock_timeout",
            Self::UniqueViolation { .. } => "unique_violation",
            Self::ForeignKeyViolation { .. } => "foreign_key_violation",
            Self::CheckViolation { .. } => "check_violation",
            Self::Serialization { .. } => "serialization",
            Self::TransactionFailed => "transaction_failed",
            Self::RowCount { .. } => "row_count",
            Self::SessionStatement { .. } => "session_statement",
            Self::CustomType { .. } => "custom_type",
            Self::Database { .. } => "database",
            Self::Mismatch { .. } => "mismatch",
        }
    }
}
