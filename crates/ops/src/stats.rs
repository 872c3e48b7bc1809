//! Statistics of connection pools in their form on the wire.

use forebay_postgres::PgPoolStats;
use forebay_proto::ops::v1 as pb;
use forebay_redis::RedisPoolStats;

pub(crate) fn postgres(stats: PgPoolStats) -> pb::PostgresPoolStats {
    pb::PostgresPoolStats {
        name: stats.name,
        connections: stats.connections,
        idle_connections: stats.idle_connections,
        in_use_connections: stats.in_use_connections,
        max_connections: stats.connections_max,
        waiting: stats.waiting,
        max_waiting: stats.waiting_max,
        timeouts: stats.timeouts,
        shed: stats.shed,
    }
}

pub(crate) fn redis(stats: RedisPoolStats) -> pb::RedisPoolStats {
    pb::RedisPoolStats {
        name: stats.name,
        connected: stats.connected,
        status: stats.status.to_owned(),
        command_queue_length: count(stats.command_queue_length),
        offline_queue_length: count(stats.offline_queue_length),
        reconnects: stats.reconnects,
        timeouts: stats.timeouts,
    }
}

/// A length on the wire; the queues are bounded far below the limit.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
