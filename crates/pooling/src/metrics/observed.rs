//! The instruments that are read when metrics are collected.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use crate::{CloseReason, PoolStats, Priority};

/// Asks for the state of the connection pool.
pub(super) type Stats = Arc<dyn Fn() -> Option<PoolStats> + Send + Sync>;

pub(super) fn shared(stats: impl Fn() -> Option<PoolStats> + Send + Sync + 'static) -> Stats {
    Arc::new(stats)
}

/// Name, unit and description of an instrument, and the values that it has.
struct Observed<T: 'static> {
    name: &'static str,
    unit: &'static str,
    description: &'static str,
    values: Values<T>,
}

enum Values<T: 'static> {
    /// A single one.
    One(fn(&PoolStats) -> T),
    /// One for each value of an attribute.
    Each(&'static str, fn(&PoolStats) -> Vec<(&'static str, T)>),
}

impl<T> Observed<T> {
    fn read(&self, stats: &PoolStats, pool_name: &KeyValue, observer: &dyn AsyncInstrument<T>) {
        match &self.values {
            Values::One(value) => observer.observe(value(stats), std::slice::from_ref(pool_name)),
            Values::Each(key, values) => {
                for (attribute, value) in values(stats) {
                    observer.observe(value, &[pool_name.clone(), KeyValue::new(*key, attribute)]);
                }
            }
        }
    }
}

/// Registers all of them. The provider keeps their callbacks, so nothing is returned.
pub(super) fn register(meter: &Meter, pool_name: &KeyValue, stats: &Stats) {
    for level in LEVELS {
        let (stats, pool_name) = (Arc::clone(stats), pool_name.clone());
        meter
            .i64_observable_up_down_counter(level.name)
            .with_unit(level.unit)
            .with_description(level.description)
            .with_callback(move |observer| {
                if let Some(stats) = stats() {
                    level.read(&stats, &pool_name, observer);
                }
            })
            .build();
    }
    for counter in COUNTERS {
        let (stats, pool_name) = (Arc::clone(stats), pool_name.clone());
        meter
            .u64_observable_counter(counter.name)
            .with_unit(counter.unit)
            .with_description(counter.description)
            .with_callback(move |observer| {
                if let Some(stats) = stats() {
                    counter.read(&stats, &pool_name, observer);
                }
            })
            .build();
    }
    let (stats, pool_name) = (Arc::clone(stats), pool_name.clone());
    meter
        .f64_observable_gauge("forebay.client.connection.oldest_wait")
        .with_unit("s")
        .with_description("How long the longest waiter has been waiting.")
        .with_callback(move |observer| {
            if let Some(stats) = stats() {
                let oldest = stats.oldest_wait.as_secs_f64();
                observer.observe(oldest, std::slice::from_ref(&pool_name));
            }
        })
        .build();
}

const LEVELS: [Observed<i64>; 8] = [
    Observed {
        name: "db.client.connection.count",
        unit: "{connection}",
        description: "Connections that are currently in the state described by the attribute.",
        values: Values::Each("db.client.connection.state", |stats| {
            let used = stats.connections.saturating_sub(stats.idle_connections);
            vec![("idle", stats.idle_connections.into()), ("used", used.into())]
        }),
    },
    Observed {
        name: "db.client.connection.max",
        unit: "{connection}",
        description: "The maximum number of open connections allowed.",
        values: Values::One(|stats| stats.connections_max.into()),
    },
    Observed {
        name: "db.client.connection.pending_requests",
        unit: "{request}",
        description: "The number of current pending requests for an open connection.",
        values: Values::One(|stats| stats.waiting.into()),
    },
    Observed {
        name: "forebay.client.connection.waiting",
        unit: "{request}",
        description: "Requests that wait for a connection, by priority.",
        values: Values::Each("priority", |stats| {
            let names = Priority::ALL.map(Priority::as_str);
            names.into_iter().zip(stats.waiting_by_priority.map(i64::from)).collect()
        }),
    },
    Observed {
        name: "forebay.client.connection.permits",
        unit: "{connection}",
        description: "Connections that may be in use now.",
        values: Values::One(|stats| stats.permits.into()),
    },
    Observed {
        name: "forebay.client.connection.limbo",
        unit: "{connection}",
        description: "Connections whose caller went away and which are being cleaned.",
        values: Values::One(|stats| stats.limbo_connections.into()),
    },
    Observed {
        name: "forebay.client.connection.budget_share",
        unit: "{connection}",
        description: "This process's share of the connections of the server; 0 before it is known.",
        values: Values::One(|stats| stats.budget_share.unwrap_or(0).into()),
    },
    Observed {
        name: "forebay.client.connection.breaker",
        unit: "1",
        description: "Whether connections are opened: 0 yes, 1 a few at a time, 2 no.",
        values: Values::One(|stats| stats.breaker.state.level().into()),
    },
];

const COUNTERS: [Observed<u64>; 9] = [
    Observed {
        name: "db.client.connection.timeouts",
        unit: "{timeout}",
        description: "Connection timeouts that occurred trying to obtain a connection from the pool.",
        values: Values::One(|stats| stats.timeouts),
    },
    Observed {
        name: "forebay.client.connection.shed",
        unit: "{request}",
        description: "Requests for a connection refused before they waited.",
        values: Values::Each("reason", |stats| {
            vec![("queue_full", stats.shed), ("deadline", stats.shed_predicted)]
        }),
    },
    Observed {
        name: "forebay.client.connection.cancelled",
        unit: "{request}",
        description: "Requests for a connection whose caller went away while it waited.",
        values: Values::One(|stats| stats.cancelled),
    },
    Observed {
        name: "forebay.client.connection.leaked",
        unit: "{connection}",
        description: "Connections that were held for longer than is normal.",
        values: Values::One(|stats| stats.leaked),
    },
    Observed {
        name: "forebay.client.connection.connect_failures",
        unit: "{attempt}",
        description: "Attempts to open a connection that failed.",
        values: Values::One(|stats| stats.connect_failures),
    },
    Observed {
        name: "forebay.client.connection.breaker_opened",
        unit: "{outage}",
        description: "Times that connections ceased to be opened because the server refused them.",
        values: Values::One(|stats| stats.breaker.opened),
    },
    Observed {
        name: "forebay.client.connection.discarded",
        unit: "{connection}",
        description: "Connections closed because they could not be cleaned.",
        values: Values::One(|stats| stats.discarded),
    },
    Observed {
        name: "forebay.client.connection.closed",
        unit: "{connection}",
        description: "Connections closed, by reason.",
        values: Values::Each("reason", |stats| {
            let counts = CloseReason::ALL.map(|reason| (reason.as_str(), stats.closed.of(reason)));
            counts.to_vec()
        }),
    },
    Observed {
        name: "forebay.client.connection.retries",
        unit: "{request}",
        description: "Requests that failed and might be sent again, by whether they were.",
        values: Values::Each("outcome", |stats| {
            vec![("granted", stats.retries), ("denied", stats.retries_denied)]
        }),
    },
];

#[cfg(test)]
mod tests {
    //! Every instrument reads the field it is named for.

    use std::time::Duration;

    use opentelemetry::KeyValue;
    use opentelemetry::metrics::AsyncInstrument;
    use parking_lot::Mutex;

    use super::{COUNTERS, LEVELS, Observed};
    use crate::{BreakerState, BreakerStats, CloseCounter, CloseReason, PoolStats};

    #[derive(Default)]
    struct Seen(Mutex<Vec<String>>);

    impl<T: std::fmt::Display> AsyncInstrument<T> for Seen {
        fn observe(&self, value: T, attributes: &[KeyValue]) {
            let attributes: Vec<_> = attributes.iter().map(|one| one.value.to_string()).collect();
            self.0.lock().push(format!("{}={value}", attributes.join(",")));
        }
    }

    fn read<T: std::fmt::Display>(observed: &Observed<T>, stats: &PoolStats) -> String {
        let seen = Seen::default();
        observed.read(stats, &KeyValue::new("pool", "p"), &seen);
        format!("{} {}", observed.name, seen.0.into_inner().join(" "))
    }

    #[test]
    fn every_instrument_has_its_value() {
        let closed = CloseCounter::default();
        closed.add(CloseReason::Lifetime);
        let stats = PoolStats {
            connections: 9,
            idle_connections: 2,
            limbo_connections: 1,
            connections_max: 10,
            permits: 8,
            budget_share: Some(20),
            waiting: 6,
            waiting_by_priority: [3, 2, 1],
            oldest_wait: Duration::from_secs(1),
            breaker: BreakerStats {
                state: BreakerState::Open,
                opened: 4,
                ..BreakerStats::default()
            },
            timeouts: 11,
            shed: 12,
            shed_predicted: 13,
            cancelled: 14,
            leaked: 15,
            connect_failures: 16,
            discarded: 17,
            retries: 18,
            retries_denied: 19,
            closed: closed.counts(),
            ..PoolStats::default()
        };
        let levels = LEVELS.iter().map(|level| read(level, &stats));
        let counters = COUNTERS.iter().map(|counter| read(counter, &stats));
        let lines: Vec<_> = levels.chain(counters).collect();
        assert_eq!(
            lines,
            [
                "db.client.connection.count p,idle=2 p,used=7",
                "db.client.connection.max p=10",
                "db.client.connection.pending_requests p=6",
                "forebay.client.connection.waiting p,interactive=3 p,batch=2 p,admin=1",
                "forebay.client.connection.permits p=8",
                "forebay.client.connection.limbo p=1",
                "forebay.client.connection.budget_share p=20",
                "forebay.client.connection.breaker p=2",
                "db.client.connection.timeouts p=11",
                "forebay.client.connection.shed p,queue_full=12 p,deadline=13",
                "forebay.client.connection.cancelled p=14",
                "forebay.client.connection.leaked p=15",
                "forebay.client.connection.connect_failures p=16",
                "forebay.client.connection.breaker_opened p=4",
                "forebay.client.connection.discarded p=17",
                "forebay.client.connection.closed p,broken=0 p,poisoned=0 p,invalid=0 \
                 p,lifetime=1 p,idle=0 p,role=0 p,shrunk=0 p,draining=0",
                "forebay.client.connection.retries p,granted=18 p,denied=19",
            ]
        );
    }
}
