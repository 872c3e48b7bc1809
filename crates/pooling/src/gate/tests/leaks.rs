//! Permits that are held for too long.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::advance;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{Gate, GateConfig, TIMEOUT, here};
use crate::Priority;

/// Keeps the fields of every warning.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().push(fields.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Fails when a leak is reported at every tick, or never.
#[tokio::test(start_paused = true)]
async fn a_leak_is_reported_once_with_its_place() {
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    let gate = Gate::new(GateConfig { leak_after: TIMEOUT, ..GateConfig::new(3, 0, TIMEOUT) });
    let line = line!() + 1;
    let leaked = Priority::Batch.scope(gate.acquire(here())).await.expect("a free permit");
    leaked.set_note(Some("SELECT tokens"));
    advance(TIMEOUT).await;
    assert_eq!(gate.report_leaks("postgres"), 0, "not yet: {TIMEOUT:?} are allowed");
    let second = gate.acquire(here()).await.expect("a free permit");
    advance(TIMEOUT / 2).await;
    let reported: Vec<_> = (0..10).map(|_| gate.report_leaks("postgres")).collect();
    assert_eq!(reported, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let text = warnings.0.lock().concat();
    for expected in [
        "pool=\"postgres\"",
        "gate/tests/leaks.rs\"",
        &format!("line={line}"),
        "age_ms=1500",
        "priority=\"batch\"",
        "note=\"SELECT tokens\"",
    ] {
        assert!(text.contains(expected), "{expected} is missing in {text}");
    }
    let shown = gate.oldest_holders(1)[0].to_string();
    assert!(shown.ends_with("for 1500 ms, batch (SELECT tokens)"), "{shown}");

    // A permit that takes the place of a reported one is a new one.
    drop(leaked);
    let third = gate.acquire(here()).await.expect("a free permit");
    advance(TIMEOUT * 2).await;
    assert_eq!(gate.report_leaks("postgres"), 2);
    assert_eq!(gate.stats().leaked, 3);
    drop((second, third));
}
