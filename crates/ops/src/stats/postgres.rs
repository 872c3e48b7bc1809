//! A Postgres connection pool.

use forebay_postgres::{PgPool, ReplicaState, ReplicaStats};
use forebay_proto::ops::v1 as pb;

use super::{age, holder, priorities, reason};

pub(crate) fn postgres(pool: &PgPool) -> pb::PostgresPoolStats {
    let stats = pool.stats();
    let replicas = pool.router_stats().map(|router| router.replicas).unwrap_or_default();
    let budget = |(share, limit)| pb::ConnectionBudget { share, limit };
    pb::PostgresPoolStats {
        connections: stats.connections,
        idle_connections: stats.idle_connections,
        in_use_connections: stats.in_use_connections,
        limbo_connections: stats.limbo_connections,
        max_connections: stats.connections_max,
        live_max_connections: stats.permits,
        waiting: stats.waiting,
        max_waiting: stats.waiting_max,
        oldest_wait: age(stats.oldest_wait),
        priorities: priorities(stats.waiting_by_priority, stats.reserved),
        top_holders: stats.holders.iter().map(holder).collect(),
        breaker: Some(pb::CircuitBreakerStats {
            state: stats.breaker.state.as_str().to_owned(),
            last_cause: stats.last_connect_failure.unwrap_or_default().to_owned(),
        }),
        budget: stats.budget_share.zip(stats.budget_limit).map(budget),
        timeouts: stats.timeouts,
        shed: stats.shed + stats.shed_predicted,
        shed_by_reason: vec![
            reason("queue_full", stats.shed),
            reason("deadline", stats.shed_predicted),
        ],
        cancelled: stats.cancelled,
        retries: stats.retries,
        retries_denied: stats.retries_denied,
        leaked: stats.leaked,
        created: stats.created,
        connect_failures: stats.connect_failures,
        closed_by_reason: stats
            .closed
            .iter()
            .map(|(why, count)| reason(why.as_str(), count))
            .collect(),
        unknown_outcomes: stats.unknown_outcomes,
        name: stats.name,
        mode: pool.mode().to_owned(),
        replicas: (1..).zip(&replicas).map(|(place, it)| replica(place, it)).collect(),
    }
}

/// Named by its place: its address is for those who may read the settings.
fn replica(place: usize, stats: &ReplicaStats) -> pb::ReplicaStats {
    let is_seen = stats.state != ReplicaState::Unknown;
    pb::ReplicaStats {
        name: format!("replica-{place}"),
        state: stats.state.as_str().to_owned(),
        lag_bytes: is_seen.then_some(stats.lag_bytes),
        lag: age(stats.lag),
        in_use_connections: stats.pool.in_use_connections,
        reads: stats.reads,
        moved: stats.moved,
        ejections: stats.ejections,
    }
}
