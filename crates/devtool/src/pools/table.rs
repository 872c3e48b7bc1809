//! What people read: one table for each store, and under it who holds and who waits.

use std::fmt::Write as _;

use forebay_proto::ops::v1::{
    CircuitBreakerStats, ConnectionHolder, GetConnectionPoolsResponse, PostgresPoolStats,
    ReasonCount, RedisPoolStats, ReplicaStats,
};
use prost_types::Duration;

use crate::dev::table::align;
use crate::fleet::Answer;
use crate::trace::clock::Millis;

/// Both tables, and the services that did not answer.
pub(super) fn text(instance: &str, answers: &[Answer<GetConnectionPoolsResponse>]) -> String {
    let mut text = format!("instance {instance}\n");
    let answered = || answers.iter().filter_map(|one| Some((one, one.reply.as_ref().ok()?)));
    let named = |service: &str, pool: &str| format!("{service}/{pool}");
    let postgres: Vec<(String, &PostgresPoolStats)> = answered()
        .flat_map(|(one, pools)| pools.postgres.iter().map(move |pool| (one, pool)))
        .map(|(one, pool)| (named(&one.service, &pool.name), pool))
        .collect();
    let redis: Vec<(String, &RedisPoolStats)> = answered()
        .flat_map(|(one, pools)| pools.redis.iter().map(move |pool| (one, pool)))
        .map(|(one, pool)| (named(&one.service, &pool.name), pool))
        .collect();
    block(&mut text, &align(&postgres_now(&postgres)));
    block(&mut text, &align(&postgres_since_start(&postgres)));
    block(&mut text, &postgres_details(&postgres));
    block(&mut text, &align(&redis_now(&redis)));
    block(&mut text, &align(&redis_since_start(&redis)));
    block(&mut text, &redis_details(&redis));
    let silent = answers.iter().filter_map(|one| {
        one.reply.as_ref().err().map(|problem| format!("  {}: {problem}", one.service))
    });
    block(&mut text, &silent.collect::<Vec<_>>());
    text
}

fn block(text: &mut String, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push('\n');
    for line in lines {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{line}");
    }
}

fn postgres_now(pools: &[(String, &PostgresPoolStats)]) -> Vec<[String; 10]> {
    let head = [
        "POSTGRES",
        "MODE",
        "SIZE",
        "IDLE",
        "IN USE",
        "LIMBO",
        "WAITING",
        "OLDEST WAIT",
        "BREAKER",
        "BUDGET",
    ];
    let rows = pools.iter().map(|(name, pool)| {
        let live = pool.live_max_connections;
        // A limit that was cut shows what it was cut from.
        let limit = if live == pool.max_connections {
            format!("{} of {live}", pool.connections)
        } else {
            format!("{} of {live} (cut from {})", pool.connections, pool.max_connections)
        };
        [
            name.clone(),
            or_dash(&pool.mode),
            limit,
            pool.idle_connections.to_string(),
            pool.in_use_connections.to_string(),
            pool.limbo_connections.to_string(),
            format!("{} of {}", pool.waiting, pool.max_waiting),
            age(pool.oldest_wait.as_ref()),
            breaker(pool.breaker.as_ref()),
            pool.budget.map_or_else(dash, |budget| format!("{} of {}", budget.share, budget.limit)),
        ]
    });
    with_head(head, rows)
}

fn postgres_since_start(pools: &[(String, &PostgresPoolStats)]) -> Vec<[String; 10]> {
    let head = [
        "SINCE START",
        "CREATED",
        "CLOSED",
        "CONNECT FAILURES",
        "TIMEOUTS",
        "SHED",
        "CANCELLED",
        "RETRIES",
        "LEAKED",
        "UNKNOWN OUTCOMES",
    ];
    let rows = pools.iter().map(|(name, pool)| {
        let closed = pool.closed_by_reason.iter().map(|reason| reason.count).sum();
        [
            name.clone(),
            pool.created.to_string(),
            with_reasons(closed, &pool.closed_by_reason),
            pool.connect_failures.to_string(),
            pool.timeouts.to_string(),
            with_reasons(pool.shed, &pool.shed_by_reason),
            pool.cancelled.to_string(),
            pool.retries.to_string(),
            pool.leaked.to_string(),
            pool.unknown_outcomes.to_string(),
        ]
    });
    with_head(head, rows)
}

fn postgres_details(pools: &[(String, &PostgresPoolStats)]) -> Vec<String> {
    let mut rows = Vec::new();
    for (name, pool) in pools {
        rows.extend(pool.priorities.iter().filter(|queue| queue.waiting > 0).map(|queue| {
            let waiting = format!("{} {}", queue.waiting, queue.priority);
            ["waiting".to_owned(), name.clone(), waiting, String::new(), String::new()]
        }));
        rows.extend(pool.top_holders.iter().map(|holder| holder_row(name, holder)));
        rows.extend(pool.replicas.iter().map(|replica| replica_row(name, replica)));
    }
    align(&rows)
}

fn replica_row(name: &str, replica: &ReplicaStats) -> [String; 5] {
    let ReplicaStats { reads, moved, ejections, .. } = replica;
    let behind = match replica.lag_bytes {
        Some(0) => "up to date".to_owned(),
        Some(bytes) => format!("{bytes} bytes behind"),
        None => "not seen yet".to_owned(),
    };
    let behind = format!("{behind}, {reads} reads, {moved} moved, {ejections} ejections");
    let state = format!("{} {}", replica.name, replica.state);
    let lag = replica.lag.as_ref().map(|lag| age(Some(lag))).unwrap_or_default();
    ["replica".to_owned(), name.to_owned(), state, lag, behind]
}

/// Its state, and why.
fn breaker(breaker: Option<&CircuitBreakerStats>) -> String {
    match breaker {
        None => dash(),
        Some(breaker) if breaker.last_cause.is_empty() => breaker.state.clone(),
        Some(breaker) => format!("{} ({})", breaker.state, breaker.last_cause),
    }
}

fn redis_now(pools: &[(String, &RedisPoolStats)]) -> Vec<[String; 11]> {
    let head = [
        "REDIS",
        "CONNECTED",
        "STATUS",
        "COMMAND QUEUE",
        "OFFLINE QUEUE",
        "WAITING",
        "OLDEST IN FLIGHT",
        "BREAKER",
        "DEDICATED",
        "SUBSCRIPTIONS",
        "BYTES WAITING",
    ];
    let rows = pools.iter().map(|(name, pool)| {
        let lanes: Vec<&str> = pool.lanes.iter().map(|lane| lane.status.as_str()).collect();
        let status = if lanes.is_empty() {
            pool.status.clone()
        } else {
            format!("{} (lanes: {})", pool.status, lanes.join(", "))
        };
        let dedicated = pool.dedicated.as_ref().map(|dedicated| {
            format!(
                "{} of {}, {} idle, {} in use",
                dedicated.connections,
                dedicated.max_connections,
                dedicated.idle_connections,
                dedicated.in_use_connections
            )
        });
        [
            name.clone(),
            if pool.connected { "yes" } else { "no" }.to_owned(),
            status,
            of_limit(pool.command_queue_length, pool.command_queue_max),
            of_limit(pool.offline_queue_length, pool.offline_queue_max),
            pool.waiting.to_string(),
            age(pool.oldest_in_flight.as_ref()),
            breaker(pool.breaker.as_ref()),
            dedicated.unwrap_or_else(dash),
            pool.subscriptions.to_string(),
            subscription_bytes(pool),
        ]
    });
    with_head(head, rows)
}

/// What waits for the consumers of all subscriptions, beside how much may for each of them.
fn subscription_bytes(pool: &RedisPoolStats) -> String {
    if pool.subscriptions == 0 {
        return dash();
    }
    format!("{} of {} each", pool.subscription_bytes, pool.subscription_bytes_max)
}

fn redis_since_start(pools: &[(String, &RedisPoolStats)]) -> Vec<[String; 7]> {
    let head = [
        "SINCE START",
        "RECONNECTS",
        "CONNECT FAILURES",
        "TIMEOUTS",
        "SHED",
        "RETRIES",
        "UNKNOWN OUTCOMES",
    ];
    let rows = pools.iter().map(|(name, pool)| {
        [
            name.clone(),
            pool.reconnects.to_string(),
            pool.connect_failures.to_string(),
            pool.timeouts.to_string(),
            pool.shed.to_string(),
            pool.retries.to_string(),
            pool.unknown_outcomes.to_string(),
        ]
    });
    with_head(head, rows)
}

fn redis_details(pools: &[(String, &RedisPoolStats)]) -> Vec<String> {
    let holders = pools.iter().flat_map(|(name, pool)| {
        let holders = pool.dedicated.iter().flat_map(|dedicated| &dedicated.top_holders);
        holders.map(|holder| holder_row(name, holder))
    });
    align(&holders.collect::<Vec<_>>())
}

fn holder_row(name: &str, holder: &ConnectionHolder) -> [String; 5] {
    [
        "held by".to_owned(),
        name.to_owned(),
        holder.location.clone(),
        age(holder.age.as_ref()),
        [holder.priority.as_str(), holder.statement.as_str()].join(" ").trim().to_owned(),
    ]
}

/// No rows, no head: a store that no service uses has no table.
fn with_head<const COLUMNS: usize>(
    head: [&str; COLUMNS],
    rows: impl Iterator<Item = [String; COLUMNS]>,
) -> Vec<[String; COLUMNS]> {
    let mut rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        rows.insert(0, head.map(str::to_owned));
    }
    rows
}

/// The number, and what it is made of where it is more than nothing.
fn with_reasons(count: u64, reasons: &[ReasonCount]) -> String {
    let known = reasons.iter().filter(|reason| reason.count > 0);
    let known: Vec<String> =
        known.map(|reason| format!("{} {}", reason.reason, reason.count)).collect();
    if known.is_empty() { count.to_string() } else { format!("{count} ({})", known.join(", ")) }
}

fn of_limit(length: u32, limit: u32) -> String {
    if limit == 0 { length.to_string() } else { format!("{length} of {limit}") }
}

fn age(duration: Option<&Duration>) -> String {
    let nanos = duration.and_then(|duration| std::time::Duration::try_from(*duration).ok());
    nanos.map_or_else(dash, |time| {
        Millis(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).to_string()
    })
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { dash() } else { text.to_owned() }
}

fn dash() -> String {
    "-".to_owned()
}
