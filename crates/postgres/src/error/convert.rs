//! Where errors come from: an attempt to connect, a statement.

use std::sync::Arc;

use super::driver::{is_lost, is_tls};
use super::sqlstate::{self, Class};
use super::{Cause, PgError, pooler};

impl PgError {
    /// What an error during the start of a connection means.
    pub(crate) fn from_connect(address: &str, error: tokio_postgres::Error) -> Self {
        if let Some(code) = error.as_db_error().and_then(|error| pooler::code(error.message())) {
            return Self::Pooler { code, source: Arc::new(error) };
        }
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
        if let Some(code) = pooler::code(database.message()) {
            return Self::Pooler { code, source: Arc::new(error) };
        }
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
