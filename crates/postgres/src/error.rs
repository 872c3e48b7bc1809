//! Everything that can go wrong with Postgres, as one type.

use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::{GateError, Holder};
use tokio_postgres::error::DbError;

pub(crate) use driver::{is_fatal, was_not_sent};
use driver::{is_lost, is_tls};
use sqlstate::Class;

mod driver;
mod sqlstate;

/// The error below a [`PgError`]. Shared, because one failed attempt to connect answers many callers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// Why Postgres gave no answer, or a refusal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PgError {
    /// The address of the database cannot be used.
    #[error("the postgres url is not usable: {reason}")]
    InvalidUrl {
        /// What is wrong with it, without the address itself: it holds a password.
        reason: String,
    },
    /// Too many callers wait for a connection already.
    #[error("{waiting} callers wait for a postgres connection already")]
    Shed {
        /// Callers that waited at that moment.
        waiting: usize,
    },
    /// No connection came free in time.
    #[error("no postgres connection came free in {} ms{}", waited.as_millis(), held_by(holders))]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
        /// Who held the connections for the longest time.
        holders: Vec<Holder>,
    },
    /// The connection pool is shutting down.
    #[error("the postgres connection pool is shutting down")]
    Draining,
    /// The server does not answer, or says that it cannot serve now.
    #[error("postgres at {address} cannot be reached")]
    Unreachable {
        /// `host:port` or the path of a socket.
        address: String,
        /// What happened.
        source: Cause,
    },
    /// The server has no connection slot left (SQLSTATE 53300).
    #[error("postgres has no free connection slot")]
    ServerSlots {
        /// The server's words.
        source: Cause,
    },
    /// The server refuses the user or the password (SQLSTATE class 28).
    #[error("postgres refuses the user or the password")]
    Auth {
        /// The server's words.
        source: Cause,
    },
    /// There is no such database (SQLSTATE 3D000).
    #[error("the postgres database does not exist")]
    UnknownDatabase {
        /// The server's words.
        source: Cause,
    },
    /// The encrypted connection could not be made or not be trusted.
    #[error("the TLS handshake with postgres failed")]
    Tls {
        /// What happened.
        source: Cause,
    },
    /// The connection was lost before the statement took effect.
    #[error("the postgres connection was lost")]
    ConnectionLost {
        /// What happened.
        source: Cause,
    },
    /// A write was sent and no answer came: it may or may not have happened.
    #[error("the outcome of the write is unknown")]
    UnknownOutcome {
        /// What happened.
        source: Cause,
    },
    /// The server only accepts reads (SQLSTATE 25006): it is a replica or was made read-only.
    #[error("postgres is read-only")]
    ReadOnly {
        /// The server's words.
        source: Cause,
    },
    /// The statement took too long, or an operator cancelled it (SQLSTATE 57014).
    #[error("the statement was cancelled because it took too long")]
    StatementTimeout {
        /// The server's words; absent when our own deadline came first.
        source: Option<Cause>,
    },
    /// A lock could not be had in time (SQLSTATE 55P03).
    #[error("a lock could not be had in time")]
    LockTimeout {
        /// The server's words.
        source: Cause,
    },
    /// A row with this key exists (SQLSTATE 23505).
    #[error("a row with the same key exists (constraint {constraint})")]
    UniqueViolation {
        /// Name of the constraint.
        constraint: String,
        /// The server's words.
        source: Cause,
    },
    /// A row refers to one that does not exist, or is referred to (SQLSTATE 23503).
    #[error("a reference between rows is broken (constraint {constraint})")]
    ForeignKeyViolation {
        /// Name of the constraint.
        constraint: String,
        /// The server's words.
        source: Cause,
    },
    /// A value is not allowed (SQLSTATE 23514, 23502, 23P01).
    #[error("a value is not allowed ({constraint})")]
    CheckViolation {
        /// Name of the constraint, or of the column that must not be null.
        constraint: String,
        /// The server's words.
        source: Cause,
    },
    /// The transaction ran into a concurrent one and may be repeated (SQLSTATE 40001, 40P01).
    #[error("the transaction ran into a concurrent one")]
    Serialization {
        /// The server's words.
        source: Cause,
    },
    /// An earlier statement of the transaction failed, so nothing of it can be committed.
    #[error("an earlier statement of the transaction failed")]
    TransactionFailed,
    /// One row was expected.
    #[error("{rows} rows where {expected} was expected")]
    RowCount {
        /// Rows received.
        rows: usize,
        /// Rows expected, in words.
        expected: &'static str,
    },
    /// A statement that would change the session for the next user of the connection.
    #[error("{summary} would change the session that later users of the connection find")]
    SessionStatement {
        /// Summary of the statement.
        summary: &'static str,
    },
    /// The server reports any other error.
    #[error("postgres reports an error (SQLSTATE {sqlstate})")]
    Database {
        /// Five characters, PostgreSQL manual, appendix A.
        sqlstate: String,
        /// The server's words.
        source: Cause,
    },
    /// Parameters or columns do not have the types that the code expects.
    #[error("parameters or columns do not fit the statement")]
    Mismatch {
        /// What does not fit.
        source: Cause,
    },
}

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

    /// A short stable name, for `error.type` in spans and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "invalid_url",
            Self::Shed { .. } => "shed",
            Self::Timeout { .. } => "acquire_timeout",
            Self::Draining => "draining",
            Self::Unreachable { .. } => "unreachable",
            Self::ServerSlots { .. } => "server_slots",
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
            Self::Database { .. } => "database",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// What a refusal of the gate means to a caller.
    pub(crate) fn from_gate(error: GateError, holders: impl FnOnce() -> Vec<Holder>) -> Self {
        match error {
            GateError::Shed { waiting, .. } => Self::Shed { waiting },
            GateError::Timeout { waited } => Self::Timeout { waited, holders: holders() },
            GateError::Closed => Self::Draining,
        }
    }

    /// What an error during the start of a connection means.
    pub(crate) fn from_connect(address: &str, error: tokio_postgres::Error) -> Self {
        let class = error.as_db_error().map(|error| sqlstate::classify(error.code().code()));
        let is_tls = is_tls(&error);
        let is_password_missing = error.to_string() == "invalid configuration";
        let source: Cause = Arc::new(error);
        match class {
            Some(Class::Auth) => Self::Auth { source },
            Some(Class::UnknownDatabase) => Self::UnknownDatabase { source },
            Some(Class::ServerSlots) => Self::ServerSlots { source },
            None if is_tls => Self::Tls { source },
            // The server asks for a password and the url has none.
            None if is_password_missing => Self::Auth { source },
            Some(
                Class::ConnectionLost
                | Class::CannotConnectNow
                | Class::UnknownOutcome
                | Class::ReadOnly
                | Class::StatementTimeout
                | Class::LockTimeout
                | Class::Unique
                | Class::ForeignKey
                | Class::Check
                | Class::Serialization
                | Class::TransactionFailed
                | Class::Other,
            )
            | None => Self::Unreachable { address: address.to_owned(), source },
        }
    }
}

/// What an error of a statement, or of reading its rows, means.
impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            let lost = is_lost(&error);
            let source: Cause = Arc::new(error);
            return if lost { Self::ConnectionLost { source } } else { Self::Mismatch { source } };
        };
        let sqlstate = database.code().code().to_owned();
        let constraint = database.constraint().or(database.column()).unwrap_or_default().to_owned();
        let source: Cause = Arc::new(error);
        match sqlstate::classify(&sqlstate) {
            Class::Auth => Self::Auth { source },
            Class::UnknownDatabase => Self::UnknownDatabase { source },
            Class::ServerSlots => Self::ServerSlots { source },
            Class::ConnectionLost | Class::CannotConnectNow => Self::ConnectionLost { source },
            Class::UnknownOutcome => Self::UnknownOutcome { source },
            Class::ReadOnly => Self::ReadOnly { source },
            Class::StatementTimeout => Self::StatementTimeout { source: Some(source) },
            Class::LockTimeout => Self::LockTimeout { source },
            Class::Unique => Self::UniqueViolation { constraint, source },
            Class::ForeignKey => Self::ForeignKeyViolation { constraint, source },
            Class::Check => Self::CheckViolation { constraint, source },
            Class::Serialization => Self::Serialization { source },
            Class::TransactionFailed => Self::TransactionFailed,
            Class::Other => Self::Database { sqlstate, source },
        }
    }
}

fn held_by(holders: &[Holder]) -> String {
    let names: Vec<_> = holders.iter().map(Holder::to_string).collect();
    if names.is_empty() { String::new() } else { format!("; held by {}", names.join(", ")) }
}

#[cfg(test)]
mod tests;
