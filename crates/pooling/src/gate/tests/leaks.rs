//! Permits that are held for too long.

use tokio::time::advance;

use super::{Gate, GateConfig, TIMEOUT, here};
use crate::Priority;
use crate::recorder::Recorder;

/// Fails when a leak is reported at every tick, or never.
#[tokio::test(start_paused = true)]
async fn a_leak_is_reported_once_with_its_place() {
    let (recorder, _guard) = Recorder::start();
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
    let text = recorder.lines().concat();
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
