//! `[postgres]`: the Postgres connection pool.

use std::time::Duration;

use crate::Secret;

/// One Postgres connection pool.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`. Environment: `DATABASE_URL`.
    pub url: Secret,
    /// Connections at most.
    pub connections_max: u32,
    /// Connections kept open when nobody needs them.
    pub connections_min: u32,
    /// Callers that may wait for a connection; one more is shed.
    pub waiting_max: usize,
    /// How long a caller may wait for a connection.
    pub acquire_timeout: Duration,
    /// How long one connection attempt may take, TLS and authentication included.
    pub connect_timeout: Duration,
    /// `statement_timeout` of every session.
    pub statement_timeout: Duration,
    /// `idle_in_transaction_session_timeout` of every session.
    pub idle_in_transaction_timeout: Duration,
    /// A connection is replaced at this age, less up to 10 % so that they do not go together.
    pub lifetime_max: Duration,
}
