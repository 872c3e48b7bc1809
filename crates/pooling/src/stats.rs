//! What an operator sees of one connection pool.

/// State of one connection pool at one moment, with its counters since the process started.
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
    /// Callers waiting for a connection.
    pub waiting: u32,
    /// The limit of waiting callers; one more is shed.
    pub waiting_max: u32,
    /// Acquires that ran out of time.
    pub timeouts: u64,
    /// Acquires refused because the queue was full.
    pub shed: u64,
    /// Connections opened.
    pub created: u64,
    /// Attempts to open a connection that failed.
    pub connect_failures: u64,
    /// Connections that could not be cleaned and were closed.
    pub discarded: u64,
}
