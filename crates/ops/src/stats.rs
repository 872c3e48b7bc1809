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
        limbo_connections: stats.limbo_connections,
        live_max_connections: stats.connections_max,
        created: stats.created,
        connect_failures: stats.connect_failures,
        closed_by_reason: vec![reason("unclean", stats.discarded)],
        shed_by_reason: vec![reason("queue_full", stats.shed)],
        ..pb::PostgresPoolStats::default()
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
        waiting: count(stats.waiting),
        unknown_outcomes: stats.unknown_outcomes,
        shed: stats.shed,
        retries: stats.retries,
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

fn reason(reason: &str, count: u64) -> pb::ReasonCount {
    pb::ReasonCount { reason: reason.to_owned(), count }
}

/// A length on the wire; the queues are bounded far below the limit.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
