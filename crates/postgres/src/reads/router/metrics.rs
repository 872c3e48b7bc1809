//! How far replicas are behind, and who answers reads.

use std::sync::{Arc, Weak};

use opentelemetry::metrics::Meter;
use opentelemetry::{KeyValue, global};

use super::{ReplicaStats, Router, RouterStats};
use crate::pool::Shared;

/// Registers the instruments, for as long as `primary` lives.
pub(super) fn observe(primary: &Arc<Shared>) {
    let primary = Arc::downgrade(primary);
    let read: Read = Arc::new(move || Weak::upgrade(&primary)?.router().map(Router::stats));
    let meter = global::meter("forebay.postgres");
    gauges(&meter, &read);
    counters(&meter, &read);
    meter
        .u64_observable_gauge("forebay.postgres.replica.fallback")
        .with_unit("{connection}")
        .with_description("Connections of the primary that serve reads no replica could answer.")
        .with_callback(move |observer| {
            if let Some(router) = read() {
                let count = u64::try_from(router.fallback_in_use).unwrap_or(u64::MAX);
                observer.observe(count, &[]);
            }
        })
        .build();
}

type Read = Arc<dyn Fn() -> Option<RouterStats> + Send + Sync>;
/// Name, unit, description and value.
type Observed = (&'static str, &'static str, &'static str, fn(&ReplicaStats) -> u64);

fn gauges(meter: &Meter, read: &Read) {
    let gauges: [Observed; 2] = [
        ("forebay.postgres.replica.lag", "ms", "Age of what a replica replays.", |replica| {
            u64::try_from(replica.lag.as_millis()).unwrap_or(u64::MAX)
        }),
        (
            "forebay.postgres.replica.lag_bytes",
            "By",
            "Bytes of the log that a replica has not replayed.",
            |replica| replica.lag_bytes,
        ),
    ];
    for (name, unit, description, value) in gauges {
        let read = Arc::clone(read);
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for replica in read().map(|router| router.replicas).unwrap_or_default() {
                    let state = KeyValue::new("forebay.state", replica.state.as_str());
                    observer.observe(value(&replica), &[address(&replica), state]);
                }
            })
            .build();
    }
}

fn counters(meter: &Meter, read: &Read) {
    let counters: [Observed; 3] = [
        ("forebay.postgres.replica.reads", "{read}", "Reads that a replica answered.", |replica| {
            replica.reads
        }),
        (
            "forebay.postgres.replica.moved",
            "{read}",
            "Reads that were moved from a replica to somebody else.",
            |replica| replica.moved,
        ),
        (
            "forebay.postgres.replica.ejections",
            "{ejection}",
            "Times a replica was left alone.",
            |replica| replica.ejections,
        ),
    ];
    for (name, unit, description, value) in counters {
        let read = Arc::clone(read);
        meter
            .u64_observable_counter(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                for replica in read().map(|router| router.replicas).unwrap_or_default() {
                    observer.observe(value(&replica), &[address(&replica)]);
                }
            })
            .build();
    }
}

fn address(replica: &ReplicaStats) -> KeyValue {
    KeyValue::new("server.address", replica.address.clone())
}
