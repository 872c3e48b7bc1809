//! Everything that can go wrong with Postgres, as one type.

use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::Holder;

pub(crate) use driver::{is_fatal, was_not_sent};

mod convert;
mod driver;
mod meaning;
mod pooler;
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
    /// Too many callers wait for a connection already, or the turn of this one would come after
    /// its deadline.
    #[error("{waiting} callers wait for a postgres connection already{}", would_wait(*predicted))]
    Shed {
        /// Callers that waited at that moment.
        waiting: usize,
        /// How long this one would have had to wait, when that is why it was turned away.
        predicted: Option<Duration>,
    },
    /// No connection came free in time.
    #[error(
        "no postgres connection came free in {} ms: {in_use} in use, {limbo} of them being cleaned{}",
        waited.as_millis(), held_by(holders)
    )]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
        /// Connections that were in use.
        in_use: usize,
        /// How many of them were cleaned after their caller had gone away.
        limbo: u32,
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
    /// The pooler in front of the server refuses, or could not get a server connection in time. It
    /// has sent nothing to the server.
    #[error("the postgres pooler refuses ({code})")]
    Pooler {
        /// What it says, in its own terms: `EMAXCONN`, `query_wait_timeout`, …
        code: &'static str,
        /// The pooler's words.
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
    /// Behind a transaction pooler, a parameter or a column has a type that is not built in. The
    /// driver would have to ask for it, and the answer may come from another server connection.
    #[error(
        "{summary} has a {place} of type {type_name}: behind a transaction pooler cast it, as in ::text"
    )]
    CustomType {
        /// Summary of the statement.
        summary: &'static str,
        /// What has the type: `parameter` or `column`.
        place: &'static str,
        /// Name of the type.
        type_name: String,
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

fn held_by(holders: &[Holder]) -> String {
    let names: Vec<_> = holders.iter().map(Holder::to_string).collect();
    if names.is_empty() { String::new() } else { format!("; held by {}", names.join(", ")) }
}

fn would_wait(predicted: Option<Duration>) -> String {
    match predicted {
        Some(wait) => format!(", the next would wait {} ms", wait.as_millis()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
