//! A Redis connection pool.

use forebay_pooling::BreakerState;
use forebay_proto::ops::v1 as pb;
use forebay_redis::{RedisLaneStats, RedisPoolStats};

use super::{count, duration, holder};

pub(crate) fn redis(stats: RedisPoolStats) -> pb::RedisPoolStats {
    pb::RedisPoolStats {
        connected: stats.connected,
        status: stats.status.to_owned(),
        command_queue_length: count(stats.command_queue_length),
        command_queue_max: count(stats.command_queue_max),
        offline_queue_length: count(stats.offline_queue_length),
        offline_queue_max: count(stats.offline_queue_max),
        offline_queue_bytes: bytes(stats.offline_queue_bytes),
        waiting: count(stats.waiting),
        oldest_in_flight: stats.oldest_in_flight.and_then(duration),
        lanes: stats.lanes.iter().map(lane).collect(),
        reconnects: stats.reconnects,
        breaker: Some(breaker(stats.breaker, stats.last_connect_failure)),
        retry_in: stats.retry_in.and_then(duration),
        connect_failures: stats.connect_failures,
        timeouts: stats.timeouts,
        shed: stats.shed,
        retries: stats.retries,
        retries_denied: stats.retries_denied,
        unknown_outcomes: stats.unknown_outcomes,
        dedicated: Some(pb::RedisDedicatedStats {
            connections: stats.dedicated_connections,
            idle_connections: stats.dedicated_idle_connections,
            in_use_connections: count(stats.dedicated_in_use),
            max_connections: stats.dedicated_connections_max,
            waiting: count(stats.dedicated_waiting),
            breaker: Some(breaker(stats.dedicated_breaker, stats.dedicated_last_connect_failure)),
            leaked: stats.dedicated_leaked,
            top_holders: stats.dedicated_holders.iter().map(holder).collect(),
        }),
        subscriptions: count(stats.subscriptions),
        subscription_events: count(stats.subscription_events),
        subscription_bytes: bytes(stats.subscription_bytes),
        subscription_bytes_max: bytes(stats.subscription_bytes_max),
        subscription_overflows: stats.subscription_overflows,
        name: stats.name,
    }
}

fn bytes(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn breaker(state: BreakerState, last_cause: Option<&str>) -> pb::CircuitBreakerStats {
    let last_cause = last_cause.unwrap_or_default().to_owned();
    pb::CircuitBreakerStats { state: state.as_str().to_owned(), last_cause }
}

fn lane(lane: &RedisLaneStats) -> pb::RedisLaneStats {
    pb::RedisLaneStats {
        status: lane.status.to_owned(),
        command_queue_length: count(lane.in_flight),
        waiting: count(lane.waiting),
        oldest_in_flight: lane.oldest_in_flight.and_then(duration),
        answered_ago: lane.answered_ago.and_then(duration),
    }
}
