//! `[redis]`: the Redis connection pool.

use std::time::Duration;

use crate::Secret;
use crate::reader::Reader;

/// One Redis connection pool: shared lanes and dedicated leases.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// `redis://[user:password@]host:port[/db]`. Environment: `REDIS_URL`.
    pub url: Secret,
    /// Put before every key, so that several systems can share one Redis.
    pub key_prefix: String,
    /// Shared pipelined connections: one carries the commands, the others stand by.
    pub lanes: u32,
    /// Commands in flight on one lane; one more waits in order.
    pub lane_in_flight_max: usize,
    /// Requests that may wait for their turn on one lane; one more is shed.
    pub lane_waiting_max: usize,
    /// Dedicated connections at most.
    pub dedicated_max: u32,
    /// A dedicated connection held for longer is reported once, with the line that took it.
    pub dedicated_leak_after: Duration,
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
    /// Bytes of the commands that may wait while a lane reconnects.
    pub offline_queue_bytes_max: usize,
    /// Bytes of the messages that may wait for the consumer of one subscription.
    pub subscription_bytes_max: usize,
}

impl RedisConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let form = "redis://[user:password@]host:port[/db]";
        let url = reader.store_url("redis.url", &["redis", "rediss"], form);
        let key_prefix = reader.text("redis.key_prefix", 64);
        let lanes = reader.integer("redis.lanes", 1..=256);
        let lane_in_flight_max = reader.integer("redis.lane_in_flight_max", 1..=1_000_000);
        let lane_waiting_max = reader.integer("redis.lane_waiting_max", 0..=1_000_000);
        let dedicated_max = reader.integer("redis.dedicated_max", 0..=10_000);
        let wait = Duration::from_millis(1)..=Duration::from_secs(300);
        let held = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
        let dedicated_leak_after = reader.duration("redis.dedicated_leak_after", held);
        let connect_timeout = reader.duration("redis.connect_timeout", wait.clone());
        let command_timeout = reader.duration("redis.command_timeout", wait.clone());
        let interval = Duration::from_secs(1)..=Duration::from_secs(7200);
        let keep_alive = reader.duration("redis.keep_alive", interval);
        let retries_max = reader.integer("redis.retries_max", 0..=100);
        let backoff_max = reader.duration("redis.backoff_max", wait);
        let offline_queue_max = reader.integer("redis.offline_queue_max", 0..=1_000_000);
        let offline_queue_bytes_max =
            reader.integer("redis.offline_queue_bytes_max", 0..=1_073_741_824);
        let subscription_bytes_max =
            reader.integer("redis.subscription_bytes_max", 1024..=1_073_741_824);
        Some(Self {
            url: url?,
            key_prefix: key_prefix?,
            lanes: lanes?,
            lane_in_flight_max: lane_in_flight_max?,
            lane_waiting_max: lane_waiting_max?,
            dedicated_max: dedicated_max?,
            dedicated_leak_after: dedicated_leak_after?,
            connect_timeout: connect_timeout?,
            command_timeout: command_timeout?,
            keep_alive: keep_alive?,
            retries_max: retries_max?,
            backoff_max: backoff_max?,
            offline_queue_max: offline_queue_max?,
            offline_queue_bytes_max: offline_queue_bytes_max?,
            subscription_bytes_max: subscription_bytes_max?,
        })
    }
}
