//! `[redis]`: the Redis connection pool.

use std::time::Duration;

use crate::Secret;

/// One Redis connection pool: shared lanes and dedicated leases.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`. Environment: `REDIS_URL`.
    pub url: Secret,
    /// Put before every key, so that several systems can share one Redis.
    pub key_prefix: String,
    /// Shared pipelined connections.
    pub lanes: u32,
    /// Commands in flight on one lane; one more waits in order.
    pub lane_in_flight_max: usize,
    /// Dedicated connections at most.
    pub dedicated_max: u32,
    /// How long a connection attempt may take.
    pub connect_timeout: Duration,
    /// How long a command on a shared lane may take.
    pub command_timeout: Duration,
    /// TCP keep-alive interval.
    pub keep_alive: Duration,
    /// Retries of one idempotent command after the first attempt.
    pub retries_max: u32,
    /// Longest pause between two attempts to connect.
    pub backoff_max: Duration,
    /// Commands that may wait while a lane reconnects; one more fails at once.
    pub offline_queue_max: usize,
}
