//! The promises of the gate, under a paused clock.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use parking_lot::Mutex;
use tokio::time::advance;

use super::{Gate, GateConfig, GateError};
use crate::Deadline;

mod expiry;
mod forecast;
mod leaks;
mod passing;
mod priorities;
mod resize;

const TIMEOUT: Duration = Duration::from_secs(1);

#[track_caller]
fn here() -> &'static Location<'static> {
    Location::caller()
}

fn gate(permits: usize, waiting_max: usize) -> Gate {
    Gate::new(GateConfig { reserved: Some(0), ..GateConfig::new(permits, waiting_max, TIMEOUT) })
}

/// Fails when a free permit may be taken past the queue, or a waiter is taken from its end.
#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_the_order_they_came() {
    let gate = gate(1, 100);
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = gate.acquire(here()).await.expect("a free permit");
    let mut waiters = Vec::new();
    for number in 0..100 {
        let (gate, order) = (gate.clone(), Arc::clone(&order));
        waiters.push(tokio::spawn(async move {
            let permit = gate.acquire(here()).await.expect("a permit in time");
            order.lock().push(number);
            tokio::task::yield_now().await;
            drop(permit);
        }));
        tokio::task::yield_now().await;
    }
    drop(first);
    // The permit is the first waiter's before it knows of it.
    assert!(gate.try_acquire(here()).expect("open").is_none(), "a newcomer passed a waiter");
    for waiter in waiters {
        waiter.await.expect("the waiter ends");
    }
    assert_eq!(*order.lock(), (0..100).collect::<Vec<_>>());
}

/// Fails when the queue has no bound.
#[tokio::test(start_paused = true)]
async fn one_more_waiter_than_allowed_is_shed_at_once() {
    let gate = gate(1, 2);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..2).map(|_| Box::pin(gate.acquire(here()))).collect();
    for waiter in &mut waiters {
        assert!(waiter.as_mut().now_or_never().is_none());
    }
    let shed = gate.acquire(here()).now_or_never().expect("an answer at once");
    assert_eq!(shed.err(), Some(GateError::Shed { waiting: 2, predicted: None }));
    assert_eq!((gate.stats().waiting, gate.stats().shed), (2, 1));

    // A waiter that goes away makes room and leaves no count behind.
    waiters.pop();
    assert_eq!(gate.stats().waiting, 1);
    assert!(gate.acquire(here()).now_or_never().is_none());
    drop(waiters);
    assert_eq!(gate.stats().waiting, 0);
    assert_eq!(gate.stats().cancelled, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_at_the_nearer_of_timeout_and_deadline() {
    let gate = gate(1, 8);
    let _held = gate.acquire(here()).await.expect("a free permit");
    for (deadline, expected) in [(TIMEOUT * 5, TIMEOUT), (TIMEOUT / 4, TIMEOUT / 4)] {
        let outcome = Deadline::after(deadline).scope(gate.acquire(here())).await;
        match outcome {
            Err(GateError::Timeout { waited }) => {
                assert!(waited >= expected && waited < expected + TIMEOUT / 10, "{waited:?}");
            }
            other => panic!("expected a timeout, got {other:?}"),
        }
    }
    assert_eq!(gate.stats().timeouts, 2);
}

#[tokio::test(start_paused = true)]
async fn closing_turns_waiters_away_and_waits_for_holders() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    let waiter = tokio::spawn({
        let gate = gate.clone();
        async move { gate.acquire(here()).await.err() }
    });
    tokio::task::yield_now().await;
    gate.close();
    assert_eq!(waiter.await.expect("the waiter ends"), Some(GateError::Closed));
    assert_eq!(gate.acquire(here()).await.err(), Some(GateError::Closed));

    assert!(!gate.idle(Deadline::after(TIMEOUT)).await, "a permit is still held");
    let drained = tokio::spawn({
        let gate = gate.clone();
        async move { gate.idle(Deadline::after(TIMEOUT)).await }
    });
    tokio::task::yield_now().await;
    drop(held);
    assert!(drained.await.expect("the task ends"));
}

#[tokio::test(start_paused = true)]
async fn the_longest_holders_are_named() {
    let gate = gate(3, 0);
    let first = gate.acquire(here()).await.expect("a free permit");
    advance(TIMEOUT).await;
    let second = gate.acquire(here()).await.expect("a free permit");
    let held: Vec<_> = gate.oldest_holders(8).iter().map(|holder| holder.held).collect();
    assert_eq!(held, [TIMEOUT, Duration::ZERO]);
    assert!(gate.oldest_holders(1)[0].to_string().contains("tests.rs:"));
    drop(first);
    assert_eq!(gate.oldest_holders(8).len(), 1);
    drop(second);
    let _third = gate.acquire(here()).await.expect("a free permit");
    assert_eq!(gate.oldest_holders(8).len(), 1);
}

/// Fails when a permit is let out twice, or is lost with a caller that goes away.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cancelled_waits_leave_nothing_behind() {
    let gate = gate(4, 10_000);
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..10_000)
        .map(|number: u32| {
            let (gate, inside, most) = (gate.clone(), Arc::clone(&inside), Arc::clone(&most));
            tokio::spawn(async move {
                let timeout = Duration::from_micros(u64::from(number % 500));
                let work = async {
                    let Ok(_permit) = gate.acquire(here()).await else { return };
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let _out = Out(&inside);
                    tokio::task::yield_now().await;
                };
                // Whether it ended or was cut off is not the point.
                tokio::time::timeout(timeout, work).await.is_ok()
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    let stats = gate.stats();
    assert_eq!((stats.held, stats.waiting), (0, 0));
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 4, "{most} were inside at once");
    let all: Vec<_> = (0..4).map(|_| gate.try_acquire(here())).collect();
    assert!(all.iter().all(|permit| matches!(permit, Ok(Some(_)))));
    assert!(stats.cancelled > 0, "no wait was cut off");
}

/// Counts one out, also when its task is cut off.
struct Out<'a>(&'a AtomicUsize);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Fails when a waiter that goes away leaves its place in the queue behind until its turn comes.
#[tokio::test(start_paused = true)]
async fn ten_thousand_cancelled_waits_take_two_places() {
    let gate = gate(1, 10_000);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut first = Box::pin(gate.acquire(here()));
    assert!(first.as_mut().now_or_never().is_none());
    for _ in 0..10_000 {
        assert!(gate.acquire(here()).now_or_never().is_none());
    }
    let stats = gate.stats();
    assert_eq!((stats.waiting, stats.cancelled), (1, 10_000));
    assert_eq!(gate.0.state.lock().places(), 2);
}

/// Fails when the trace is not the caller's.
#[tokio::test(start_paused = true)]
async fn a_holder_is_known_by_its_trace() {
    let gate = gate(2, 0);
    let _without = gate.acquire(here()).await.expect("a free permit");
    let trace = TraceId::from(7);
    let span =
        SpanContext::new(trace, SpanId::from(1), TraceFlags::SAMPLED, true, TraceState::default());
    let _active = Context::new().with_remote_span_context(span).attach();
    let _with = gate.acquire(here()).await.expect("a free permit");
    let traces: Vec<_> = gate.oldest_holders(2).iter().map(|holder| holder.trace).collect();
    assert_eq!(traces, [None, Some(trace)]);
}
