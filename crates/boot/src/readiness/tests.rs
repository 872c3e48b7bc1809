//! Components decide the state of the process, in any order of events.

use super::*;

/// One step and the state that must follow from it.
enum Step {
    Required(&'static str),
    Optional(&'static str),
    Ready(&'static str),
    Degraded(&'static str),
    Drain,
}

use ProcessState::{Degraded, Draining, Ready, Starting};
use Step::{Degraded as Degrade, Drain, Optional, Ready as SetReady, Required};

fn check(steps: &[(Step, ProcessState)]) {
    let readiness = Readiness::new();
    let watch = readiness.watch();
    assert_eq!(readiness.state(), Starting);
    for (index, (step, state)) in steps.iter().enumerate() {
        match step {
            Required(name) => _ = readiness.component(name),
            Optional(name) => _ = readiness.optional_component(name),
            SetReady(name) => readiness.component(name).set_ready(),
            Degrade(name) => readiness.component(name).set_degraded("away"),
            Drain => readiness.set_draining(),
        }
        assert_eq!(readiness.state(), *state, "after step {index}");
        assert_eq!(*watch.borrow(), *state, "watched after step {index}");
    }
}

#[test]
fn starting_until_every_required_component_was_ready_once() {
    check(&[
        (Required("a"), Starting),
        (Required("b"), Starting),
        (SetReady("a"), Starting),
        // It was ready once, which is enough.
        (Degrade("a"), Starting),
        (SetReady("b"), Degraded),
        (SetReady("a"), Ready),
    ]);
}

#[test]
fn an_optional_component_degrades_but_never_holds_up() {
    check(&[
        (Required("a"), Starting),
        (Optional("c"), Starting),
        (SetReady("a"), Degraded),
        (SetReady("c"), Ready),
        (Degrade("c"), Degraded),
    ]);
    check(&[(Optional("c"), Degraded)]);
}

#[test]
fn a_started_process_serves_without_its_stores() {
    check(&[
        (Required("a"), Starting),
        (SetReady("a"), Ready),
        (Degrade("a"), Degraded),
        (SetReady("a"), Ready),
    ]);
    assert!(Degraded.serves() && Ready.serves());
    assert!(!Starting.serves() && !Draining.serves());
}

#[test]
fn draining_is_final() {
    check(&[
        (Required("a"), Starting),
        (Drain, Draining),
        (SetReady("a"), Draining),
        (Degrade("a"), Draining),
    ]);
}

#[test]
fn a_late_component_is_waited_for() {
    check(&[
        (Required("a"), Starting),
        (SetReady("a"), Ready),
        (Required("late"), Starting),
        (SetReady("late"), Ready),
    ]);
}
