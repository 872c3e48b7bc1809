//! What an operator sees of a Redis connection pool.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use forebay_pooling::{BreakerState, Holder};
use opentelemetry::global;
use opentelemetry::metrics::Meter;

/// State of one Redis connection pool at one moment, with its counters since it was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisPoolStats {
    /// Name of the connection pool.
    pub name: String,
    /// Whether a shared lane is ready and was answered less than five seconds ago.
    pub connected: bool,
    /// State of the best lane, in the words of ioredis: `wait` (nobody wanted it yet),
    /// `connecting`, `connect` (accepted, being checked), `ready`, `close` (lost just now),
    /// `reconnecting` (between two attempts), `draining` or `end`.
    pub status: &'static str,
    /// Commands sent on shared lanes and not yet answered.
    pub command_queue_length: usize,
    /// The limit of those, of all lanes.
    pub command_queue_max: usize,
    /// Requests that wait for a lane to connect.
    pub offline_queue_length: usize,
    /// The limit of those; one more is shed.
    pub offline_queue_max: usize,
    /// Bytes of the requests that wait for a lane to connect.
    pub offline_queue_bytes: usize,
    /// Requests that wait for their turn on a connected lane.
    pub waiting: usize,
    /// Age of the oldest message that was sent and has no answer yet; `None` if there is none.
    pub oldest_in_flight: Option<Duration>,
    /// Each shared lane.
    pub lanes: Vec<RedisLaneStats>,
    /// Connections of lanes and subscriptions that were replaced.
    pub reconnects: u64,
    /// Whether lanes and subscriptions ask the server: `closed`, `half_open` or `open`.
    pub breaker: BreakerState,
    /// Class of the last failure to open one of those connections: `auth`, `not_ready` (a replica,
    /// or a server that loads its data) or `unreachable`; `None` when the last attempt succeeded.
    pub last_connect_failure: Option<&'static str>,
    /// Time until the next attempt to connect may go out; `None` if one may now.
    pub retry_in: Option<Duration>,
    /// Attempts to open a connection of a lane, a subscription or a lease that failed.
    pub connect_failures: u64,
    /// Commands that ran out of time.
    pub timeouts: u64,
    /// Commands sent again after their answer was lost or the server refused them for now.
    pub retries: u64,
    /// Commands not sent again because too many had been: a tenth of those that succeed may be.
    pub retries_denied: u64,
    /// Commands and leases refused because too many were waiting.
    pub shed: u64,
    /// Commands whose outcome is unknown.
    pub unknown_outcomes: u64,
    /// Open dedicated connections, idle and leased.
    pub dedicated_connections: u32,
    /// Open dedicated connections that nobody leases.
    pub dedicated_idle_connections: u32,
    /// Leases given out or being prepared.
    pub dedicated_in_use: usize,
    /// Callers that wait for a lease.
    pub dedicated_waiting: usize,
    /// Leases that were held for longer than `redis.dedicated_leak_after`, each counted once.
    pub dedicated_leaked: u64,
    /// Whether leases ask the server for connections.
    pub dedicated_breaker: BreakerState,
    /// As [`RedisPoolStats::last_connect_failure`], of leases.
    pub dedicated_last_connect_failure: Option<&'static str>,
    /// The limit of dedicated connections.
    pub dedicated_connections_max: u32,
    /// Who has held a lease for the longest time, by line of code.
    pub dedicated_holders: Vec<Holder>,
    /// Subscriptions that are open now, each on a connection of its own.
    pub subscriptions: usize,
    /// Events of subscriptions that wait for their consumers.
    pub subscription_events: usize,
    /// Bytes of the messages among them.
    pub subscription_bytes: usize,
    /// The limit of those for each subscription; with one more it starts over.
    pub subscription_bytes_max: usize,
    /// Times a subscription started over because its consumer was too slow.
    pub subscription_overflows: u64,
}

/// One shared lane at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisLaneStats {
    /// Its state, in the words of [`RedisPoolStats::status`].
    pub status: &'static str,
    /// Commands sent and not yet answered.
    pub in_flight: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// Age of the oldest message without an answer.
    pub oldest_in_flight: Option<Duration>,
    /// Time since the last answer; `None` before the first.
    pub answered_ago: Option<Duration>,
}

/// Counters shared by all parts of one connection pool.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) reconnects: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) unknown_outcomes: AtomicU64,
    pub(crate) subscriptions: AtomicUsize,
    pub(crate) subscription_events: AtomicUsize,
    pub(crate) subscription_bytes: AtomicUsize,
    pub(crate) subscription_overflows: AtomicU64,
}

pub(crate) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Name, description and value of an observed instrument.
type Observed<T> = (&'static str, &'static str, fn(&RedisPoolStats) -> T);

/// Registers the observed instruments; `stats` gives `None` once the connection pool is gone. The
/// provider keeps the callbacks, so nothing is returned.
pub(crate) fn observe(stats: impl Fn() -> Option<RedisPoolStats> + Clone + Send + Sync + 'static) {
    let meter = global::meter("forebay.redis");
    observe_counters(&meter, stats.clone());
    let gauges: [Observed<usize>; 10] = [
        ("forebay.redis.commands.in_flight", "Commands sent and not yet answered.", |stats| {
            stats.command_queue_length
        }),
        ("forebay.redis.commands.offline", "Commands that wait for a connection.", |stats| {
            stats.offline_queue_length
        }),
        ("forebay.redis.commands.offline_bytes", "Bytes of those commands.", |stats| {
            stats.offline_queue_bytes
        }),
        ("forebay.redis.commands.waiting", "Commands that wait for their turn.", |stats| {
            stats.waiting
        }),
        ("forebay.redis.leases.in_use", "Leases given out or being prepared.", |stats| {
            stats.dedicated_in_use
        }),
        ("forebay.redis.leases.waiting", "Callers that wait for a lease.", |stats| {
            stats.dedicated_waiting
        }),
        ("forebay.redis.subscription.events", "Events that wait for their consumers.", |stats| {
            stats.subscription_events
        }),
        ("forebay.redis.subscription.bytes", "Bytes of those events.", |stats| {
            stats.subscription_bytes
        }),
        ("forebay.redis.breaker", "0 closed, 1 half-open, 2 open.", |stats| {
            usize::try_from(stats.breaker.level()).unwrap_or(usize::MAX)
        }),
        ("forebay.redis.connected", "One if commands can be sent.", |stats| {
            usize::from(stats.connected)
        }),
    ];
    for (name, description, value) in gauges {
        let read = stats.clone();
        meter
            .u64_observable_gauge(name)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(stats) = read() {
                    observer.observe(u64::try_from(value(&stats)).unwrap_or(u64::MAX), &[]);
                }
            })
            .build();
    }
}

fn observe_counters(
    meter: &Meter,
    stats: impl Fn() -> Option<RedisPoolStats> + Clone + Send + Sync + 'static,
) {
    let counters: [Observed<u64>; 8] = [
        ("forebay.redis.reconnects", "Connections that were replaced.", |stats| stats.reconnects),
        ("forebay.redis.connect_failures", "Attempts to connect that failed.", |stats| {
            stats.connect_failures
        }),
        ("forebay.redis.subscription.overflows", "Slow consumers' fresh starts.", |stats| {
            stats.subscription_overflows
        }),
        ("forebay.redis.timeouts", "Commands that ran out of time.", |stats| stats.timeouts),
        ("forebay.redis.retries", "Commands that were sent again.", |stats| stats.retries),
        ("forebay.redis.retries_denied", "Commands not sent again: too many were.", |stats| {
            stats.retries_denied
        }),
        ("forebay.redis.shed", "Commands refused by a full queue.", |stats| stats.shed),
        ("forebay.redis.unknown_outcomes", "Commands with an unknown outcome.", |stats| {
            stats.unknown_outcomes
        }),
    ];
    for (name, description, value) in counters {
        let read = stats.clone();
        meter
            .u64_observable_counter(name)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(stats) = read() {
                    observer.observe(value(&stats), &[]);
                }
            })
            .build();
    }
}
