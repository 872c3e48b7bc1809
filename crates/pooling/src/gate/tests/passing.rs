//! What a holder passes on with its permit.

use std::sync::Arc;

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::super::{Gate, GateConfig};
use super::{TIMEOUT, here};

/// Notes how many permits were held when it was dropped.
#[derive(Debug)]
struct Thing {
    gate: Gate<Thing>,
    dropped: Arc<Mutex<Vec<usize>>>,
}

impl Drop for Thing {
    fn drop(&mut self) {
        self.dropped.lock().push(self.gate.stats().held);
    }
}

fn gate_and_thing() -> (Gate<Thing>, Thing, Arc<Mutex<Vec<usize>>>) {
    let gate = Gate::passing_on(GateConfig::new(1, 8, TIMEOUT));
    let dropped = Arc::default();
    let thing = Thing { gate: gate.clone(), dropped: Arc::clone(&dropped) };
    (gate, thing, dropped)
}

/// Fails when a thing is lost on the way, or goes to another than whose turn it is.
#[tokio::test(start_paused = true)]
async fn the_next_waiter_finds_it_with_its_permit() {
    let (gate, thing, dropped) = gate_and_thing();
    let held = gate.acquire(here()).await.expect("a free permit");
    let (held, thing) = held.pass_on(thing, Instant::now()).expect_err("nobody waits");
    assert_eq!(gate.stats().held, 1, "nothing was given back");
    let mut waiters: Vec<_> = (0..2).map(|_| Box::pin(gate.acquire(here()))).collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));

    held.pass_on(thing, Instant::now()).expect("somebody waits");
    assert!(waiters[1].as_mut().now_or_never().is_none(), "it is not its turn");
    let mut permit = waiters[0].as_mut().now_or_never().expect("its turn").expect("open");
    let thing = permit.take_passed().expect("it was passed on");
    assert!(permit.take_passed().is_none(), "there is one");
    permit.give_back(Instant::now());
    let mut permit = waiters[1].as_mut().now_or_never().expect("its turn").expect("open");
    assert!(permit.take_passed().is_none(), "nothing was passed on this time");
    assert!(dropped.lock().is_empty());
    drop((permit, thing));
    assert_eq!(*dropped.lock(), [0]);
}

/// Fails when a waiter that goes away takes the thing along, or when the permit is free before the
/// thing is back where it belongs: who comes then would not find it.
#[tokio::test(start_paused = true)]
async fn with_nobody_left_it_is_back_before_the_permit_is_free() {
    let (gate, thing, dropped) = gate_and_thing();
    let held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(gate.acquire(here()))).collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
    held.pass_on(thing, Instant::now()).expect("somebody waits");
    // The first never looks, and the second never takes it.
    drop(waiters.remove(0));
    drop(waiters.remove(0).now_or_never().expect("its turn").expect("open"));
    assert!(dropped.lock().is_empty(), "the third waits for it");
    let mut third = waiters.remove(0);
    let permit = third.as_mut().now_or_never().expect("its turn").expect("open");
    drop(permit);
    assert_eq!(*dropped.lock(), [1], "permits held when it was dropped");
    assert_eq!(gate.stats().held, 0);
}
