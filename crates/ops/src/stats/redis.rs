//! A Redis connection pool.

use forebay_proto::ops::v1 as pb;
use forebay_redis::RedisPoolStats;

use super::count;

pub(crate) fn redis(stats: RedisPoolStats) -> pb::RedisPoolStats {
    pb::RedisPoolStats {
        name: stats.name,
        connected: stats.connected,
        status: stats.status.to_owned(),
        command_queue_length: count(stats.command_queue_length),
        offline_queue_length: count(stats.offline_queue_length),
        waiting: count(stats.waiting),
        reconnects: stats.reconnects,
        timeouts: stats.timeouts,
        shed: stats.shed,
        retries: stats.retries,
        unknown_outcomes: stats.unknown_outcomes,
        dedicated: Some(pb::RedisDedicatedStats {
            connections: stats.dedicated_connections,
            idle_connections: stats.dedicated_idle_connections,
            in_use_connections: stats
                .dedicated_connections
                .saturating_sub(stats.dedicated_idle_connections),
            max_connections: stats.dedicated_connections_max,
            ..pb::RedisDedicatedStats::default()
        }),
        ..pb::RedisPoolStats::default()
    }
}
