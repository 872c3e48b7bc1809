//! Waits that the owner of the gate ends, and wakes.

use std::future::poll_fn;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, advance};

use super::super::{Entered, Wait};
use super::{Gate, GateError, TIMEOUT, gate, here};
use crate::Deadline;

/// A caller that may wait for `patience` and finds no permit.
async fn waiter(gate: &Gate, patience: Duration) -> Wait<'_> {
    let caller: &'static Location<'static> = here();
    let enter = async { gate.enter(caller, None, Instant::now()) };
    match Deadline::after(patience).scope(enter).await.expect("a place in the queue") {
        Entered::Waiting(wait) => wait,
        Entered::In(_) => panic!("the permit is held"),
    }
}

/// Fails when a deadline that has passed is not noticed, or a permit goes to one whose time is over.
#[tokio::test(start_paused = true)]
async fn the_owner_ends_the_waits_whose_time_is_over() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    let started = Instant::now();
    assert_eq!(gate.expire_waits(), None);
    let mut waits = Vec::new();
    for patience in [TIMEOUT / 2, TIMEOUT / 4, TIMEOUT] {
        waits.push(waiter(&gate, patience).await);
    }
    assert_eq!(gate.expire_waits(), Some(started + TIMEOUT / 4));
    for (at, over, next) in
        [(TIMEOUT / 4, 1, Some(started + TIMEOUT / 2)), (TIMEOUT / 2, 0, Some(started + TIMEOUT))]
    {
        advance(started + at - Instant::now()).await;
        assert_eq!(gate.expire_waits(), next);
        let outcome = (&mut waits[over]).now_or_never().expect("its time is over");
        assert_eq!(outcome.expect_err("too late"), GateError::Timeout { waited: at });
    }
    assert_eq!((gate.stats().timeouts, gate.stats().waiting), (2, 1));
    drop(held);
    assert!((&mut waits[2]).now_or_never().expect("its turn").is_ok());
    drop(waits);
    assert_eq!((gate.stats().held, gate.stats().cancelled), (0, 0));
    advance(TIMEOUT).await;
    assert_eq!(gate.expire_waits(), None, "nobody waits any more");
}

/// Fails when the owner would sleep past a deadline, or is woken by every waiter.
#[tokio::test(start_paused = true)]
async fn only_a_nearer_deadline_calls_the_owner() {
    let gate = gate(1, 8);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waits = Vec::new();
    for (patience, is_called) in [
        (TIMEOUT / 2, true),
        (TIMEOUT / 2, false),
        (TIMEOUT, false),
        (TIMEOUT / 4, true),
        (TIMEOUT / 3, false),
    ] {
        waits.push(waiter(&gate, patience).await);
        assert_eq!(gate.earlier_deadline().now_or_never().is_some(), is_called, "{patience:?}");
    }
    // Its alarm was for one who is gone; the first to join after it calls again.
    waits.clear();
    advance(TIMEOUT).await;
    assert_eq!(gate.expire_waits(), None);
    let _last = waiter(&gate, TIMEOUT).await;
    assert!(gate.earlier_deadline().now_or_never().is_some());
}

/// Fails when those who are woken to look at the world lose their places, or are not woken.
#[tokio::test(start_paused = true)]
async fn whoever_is_roused_keeps_its_place() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    let looks = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let (gate, looks) = (gate.clone(), Arc::clone(&looks));
            tokio::spawn(async move {
                let mut wait = waiter(&gate, TIMEOUT).await;
                poll_fn(|context| {
                    looks.fetch_add(1, Ordering::SeqCst);
                    Pin::new(&mut wait).poll(context).map(|permit| permit.expect("in time"))
                })
                .await;
            })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!((looks.load(Ordering::SeqCst), gate.stats().waiting), (3, 3));
    gate.rouse();
    tokio::task::yield_now().await;
    assert_eq!((looks.load(Ordering::SeqCst), gate.stats().waiting), (6, 3));
    drop(held);
    for task in tasks {
        task.await.expect("it was served");
    }
    assert_eq!((looks.load(Ordering::SeqCst), gate.stats().held), (9, 0));
}

/// Fails when a permit that nobody took comes back unheard: whoever waits for the last one would
/// wait until its deadline.
#[tokio::test(start_paused = true)]
async fn a_permit_nobody_took_ends_the_wait_for_the_last() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    let mut wait = waiter(&gate, TIMEOUT).await;
    assert!((&mut wait).now_or_never().is_none());
    drop(held);
    let started = Instant::now();
    let drained = tokio::spawn({
        let gate = gate.clone();
        async move { gate.idle(Deadline::after(TIMEOUT)).await }
    });
    tokio::task::yield_now().await;
    drop(wait);
    assert!(drained.await.expect("the task ends"));
    assert_eq!(started.elapsed(), Duration::ZERO);
}
