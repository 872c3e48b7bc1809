//! `[postgres]`: the Postgres connection pool.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Secret;
use crate::reader::Reader;

pub use budget::{PostgresBudgetConfig, ServiceConnections};

mod budget;

/// What stands between a process and its Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresMode {
    /// Told by the url.
    Auto,
    /// Nothing: the server itself.
    Direct,
    /// A pooler that gives each client a server connection for as long as it stays.
    Session,
    /// A pooler that changes the server connection after each transaction.
    Transaction,
}

/// One Postgres connection pool.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`. Environment: `DATABASE_URL`.
    pub url: Secret,
    /// Servers that follow the one of `url` and take reads that say so. Each gets a connection pool
    /// of the same size. Empty: there is none.
    pub replica_urls: Vec<Secret>,
    /// What stands between this process and the server.
    pub mode: PostgresMode,
    /// Names this process in `application_name`; empty for `host:pid`.
    pub instance: String,
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
    /// `lock_timeout` of every session.
    pub lock_timeout: Duration,
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
    /// Once the server refused a connection for want of slots: time between two steps by which the
    /// connection pool grows again, while somebody waits.
    pub regrow_interval: Duration,
    /// Server connections that a session pooler has for all its clients.
    pub pooler_connections_max: u32,
    /// Clients that a transaction pooler lets in.
    pub pooler_clients_max: u32,
    /// What all processes together may take of the server.
    pub budget: PostgresBudgetConfig,
}

/// Longest name of an instance, so that the service and the connection pool fit beside it into the
/// 63 bytes that Postgres keeps of an application name.
const INSTANCE_BYTES_MAX: usize = 32;

const MODES: [(&str, PostgresMode); 4] = [
    ("auto", PostgresMode::Auto),
    ("direct", PostgresMode::Direct),
    ("session", PostgresMode::Session),
    ("transaction", PostgresMode::Transaction),
];

/// The setting that is also read for the other services, because they share the server.
pub(crate) const CONNECTIONS_MAX_KEY: &str = "postgres.connections_max";
pub(crate) const CONNECTIONS_MAX_BOUNDS: RangeInclusive<u32> = 1..=10_000;

impl PostgresConfig {
    /// Replicas that a process reads from, at most.
    pub const REPLICAS_MAX: usize = 8;

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let form = "postgres://user:password@host:port/database";
        let url = reader.store_url("postgres.url", &["postgres", "postgresql"], form);
        let replica_urls = reader.store_urls(
            "postgres.replica_urls",
            &["postgres", "postgresql"],
            form,
            PostgresConfig::REPLICAS_MAX,
        );
        let mode = reader.choice("postgres.mode", &MODES);
        let instance = reader.text("postgres.instance", INSTANCE_BYTES_MAX);
        let connections_max = reader.integer(CONNECTIONS_MAX_KEY, CONNECTIONS_MAX_BOUNDS);
        let connections_min = reader.integer("postgres.connections_min", 0..=10_000);
        let waiting_max = reader.integer("postgres.waiting_max", 1..=1_000_000);
        let wait = Duration::from_millis(1)..=Duration::from_secs(300);
        let acquire_timeout = reader.duration("postgres.acquire_timeout", wait.clone());
        let connect_timeout = reader.duration("postgres.connect_timeout", wait);
        let work = Duration::from_millis(1)..=Duration::from_secs(3600);
        let statement_timeout = reader.duration("postgres.statement_timeout", work.clone());
        let idle_in_transaction_timeout =
            reader.duration("postgres.idle_in_transaction_timeout", work.clone());
        let lock_timeout = reader.duration("postgres.lock_timeout", work);
        let age = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);
        let lifetime_max = reader.duration("postgres.lifetime_max", age.clone());
        let idle_timeout = reader.duration("postgres.idle_timeout", age.clone());
        let leak_after = reader.duration("postgres.leak_after", age);
        let grace = Duration::ZERO..=Duration::from_secs(60);
        let outage_grace = reader.duration("postgres.outage_grace", grace);
        let step = Duration::from_millis(10)..=Duration::from_secs(3600);
        let regrow_interval = reader.duration("postgres.regrow_interval", step);
        let pooler_connections_max = reader.integer("postgres.pooler_connections_max", 1..=10_000);
        let pooler_clients_max = reader.integer("postgres.pooler_clients_max", 1..=100_000);
        let budget = PostgresBudgetConfig::read(reader);
        Some(Self {
            url: url?,
            replica_urls: replica_urls?,
            mode: mode?,
            instance: instance?,
            connections_max: connections_max?,
            connections_min: connections_min?,
            waiting_max: waiting_max?,
            acquire_timeout: acquire_timeout?,
            connect_timeout: connect_timeout?,
            statement_timeout: statement_timeout?,
            idle_in_transaction_timeout: idle_in_transaction_timeout?,
            lock_timeout: lock_timeout?,
            lifetime_max: lifetime_max?,
            idle_timeout: idle_timeout?,
            leak_after: leak_after?,
            outage_grace: outage_grace?,
            regrow_interval: regrow_interval?,
            pooler_connections_max: pooler_connections_max?,
            pooler_clients_max: pooler_clients_max?,
            budget: budget?,
        })
    }
}
