//! `[postgres]`: the Postgres connection pool.

use std::time::Duration;

use crate::Secret;
use crate::reader::Reader;

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
    /// A connection that nobody used for so long is closed, if there are more than
    /// `connections_min`.
    pub idle_timeout: Duration,
    /// A connection that one caller holds for longer is reported in the log, with the line of code
    /// that asked for it.
    pub leak_after: Duration,
    /// How long callers wait for a server that was there a moment ago, before they are told that it
    /// cannot be reached. Zero tells them at once.
    pub outage_grace: Duration,
}

impl PostgresConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let form = "postgres://user:password@host:port/database";
        let url = reader.store_url("postgres.url", &["postgres", "postgresql"], form);
        let connections_max = reader.integer("postgres.connections_max", 1..=10_000);
        let connections_min = reader.integer("postgres.connections_min", 0..=10_000);
        let waiting_max = reader.integer("postgres.waiting_max", 1..=1_000_000);
        let wait = Duration::from_millis(1)..=Duration::from_secs(300);
        let acquire_timeout = reader.duration("postgres.acquire_timeout", wait.clone());
        let connect_timeout = reader.duration("postgres.connect_timeout", wait);
        let work = Duration::from_millis(1)..=Duration::from_secs(3600);
        let statement_timeout = reader.duration("postgres.statement_timeout", work.clone());
        let idle_in_transaction_timeout =
            reader.duration("postgres.idle_in_transaction_timeout", work);
        let age = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        let lifetime_max = reader.duration("postgres.lifetime_max", age.clone());
        let idle_timeout = reader.duration("postgres.idle_timeout", age.clone());
        let leak_after = reader.duration("postgres.leak_after", age);
        let grace = Duration::ZERO..=Duration::from_secs(60);
        let outage_grace = reader.duration("postgres.outage_grace", grace);
        Some(Self {
            url: url?,
            connections_max: connections_max?,
            connections_min: connections_min?,
            waiting_max: waiting_max?,
            acquire_timeout: acquire_timeout?,
            connect_timeout: connect_timeout?,
            statement_timeout: statement_timeout?,
            idle_in_transaction_timeout: idle_in_transaction_timeout?,
            lifetime_max: lifetime_max?,
            idle_timeout: idle_timeout?,
            leak_after: leak_after?,
            outage_grace: outage_grace?,
        })
    }
}
