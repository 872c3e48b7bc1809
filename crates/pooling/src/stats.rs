//! What an operator sees of one connection pool.

use std::time::Duration;

use crate::{BreakerStats, CloseCounts, Gate, Holder};

/// State of one connection pool at one moment, with its counters since the process started.
///
/// Start from [`PoolStats::of_gate`], so that what is added here later needs no change there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Name of the connection pool.
    pub name: String,
    /// Open connections, idle and in use.
    pub connections: u32,
    /// Open connections that nobody uses.
    pub idle_connections: u32,
    /// Places taken: connections leased to callers, being opened for them, or being cleaned.
    pub in_use_connections: u32,
    /// Connections whose caller went away and which are being cleaned.
    pub limbo_connections: u32,
    /// The limit of open connections.
    pub connections_max: u32,
    /// Connections that may be in use now: below the limit while the server refuses more.
    pub permits: u32,
    /// How many of them only [`crate::Priority::Admin`] may take.
    pub reserved: u32,
    /// This process's share of the connections of the server, if it was asked.
    pub budget_share: Option<u32>,
    /// Connections that the server has for ordinary users, if it was asked.
    pub budget_limit: Option<u32>,
    /// Callers waiting for a connection.
    pub waiting: u32,
    /// Callers waiting, in the order of [`crate::Priority::ALL`].
    pub waiting_by_priority: [u32; 3],
    /// The limit of waiting callers; one more is shed.
    pub waiting_max: u32,
    /// How long the longest waiter has been waiting; zero if nobody waits.
    pub oldest_wait: Duration,
    /// Who has held a connection longest, the longest first.
    pub holders: Vec<Holder>,
    /// Whether connections are opened.
    pub breaker: BreakerStats,
    /// Acquires that ran out of time.
    pub timeouts: u64,
    /// Acquires refused because the queue was full.
    pub shed: u64,
    /// Acquires refused because their turn would have come after their deadline.
    pub shed_predicted: u64,
    /// Acquires whose caller went away while it waited.
    pub cancelled: u64,
    /// Connections that were held for longer than is normal.
    pub leaked: u64,
    /// Connections opened.
    pub created: u64,
    /// Attempts to open a connection that failed.
    pub connect_failures: u64,
    /// Class of the last failure to open a connection; `None` when the last attempt succeeded.
    pub last_connect_failure: Option<&'static str>,
    /// Connections that could not be cleaned and were closed.
    pub discarded: u64,
    /// Connections closed, by reason.
    pub closed: CloseCounts,
    /// Requests sent again.
    pub retries: u64,
    /// Requests not sent again because too many had been.
    pub retries_denied: u64,
    /// Requests that were sent and not answered, so that nobody knows whether they had an effect.
    pub unknown_outcomes: u64,
}

impl PoolStats {
    /// Holders that are shown.
    pub const HOLDERS_MAX: usize = 3;

    /// What the gate in front of a connection pool knows; the rest is zero.
    pub fn of_gate<C>(gate: &Gate<C>) -> Self {
        let stats = gate.stats();
        Self {
            in_use_connections: count(stats.held),
            permits: count(stats.permits),
            reserved: count(stats.reserved),
            waiting: count(stats.waiting),
            waiting_by_priority: stats.waiting_by_priority.map(count),
            waiting_max: count(stats.waiting_max),
            oldest_wait: stats.oldest_wait,
            holders: gate.oldest_holders(Self::HOLDERS_MAX),
            timeouts: stats.timeouts,
            shed: stats.shed,
            shed_predicted: stats.shed_predicted,
            cancelled: stats.cancelled,
            leaked: stats.leaked,
            ..Self::default()
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
