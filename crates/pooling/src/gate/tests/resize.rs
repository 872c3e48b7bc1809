//! A gate whose size changes, and permits handed to those who are gone.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::advance;

use super::{TIMEOUT, gate, here};
use crate::Priority;

/// Fails when new permits are not handed out: the waiters would sit there until one comes back.
#[tokio::test(start_paused = true)]
async fn growing_lets_waiters_in_at_once() {
    let gate = gate(1, 8);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..4).map(|_| Box::pin(gate.acquire(here()))).collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
    gate.resize(4);
    assert_eq!((gate.permits(), gate.stats().held, gate.stats().waiting), (4, 4, 1));
    let mut permits = Vec::new();
    for (number, waiter) in waiters.iter_mut().enumerate() {
        let permit = waiter.as_mut().now_or_never();
        assert_eq!(permit.is_some(), number < 3, "the first three are in");
        permits.extend(permit.transpose().expect("open"));
    }
}

/// Fails when a permit that comes back is handed on although too many are held.
#[tokio::test(start_paused = true)]
async fn shrinking_takes_nothing_and_lets_nobody_in() {
    let gate = gate(4, 8);
    let mut held: Vec<_> = (0..4).map(|_| gate.try_acquire(here()).expect("open")).collect();
    let mut waiter = Box::pin(gate.acquire(here()));
    assert!(waiter.as_mut().now_or_never().is_none());
    gate.resize(2);
    assert_eq!((gate.stats().held, gate.stats().permits), (4, 2));
    for left in [3, 2] {
        held.pop();
        assert_eq!(gate.stats().held, left);
        assert!(waiter.as_mut().now_or_never().is_none(), "{left} are still held");
    }
    held.pop();
    let permit = waiter.now_or_never().expect("a place is free").expect("open");
    assert_eq!(gate.stats().held, 2);
    drop((permit, held));
    assert_eq!(gate.stats().held, 0);
}

#[tokio::test(start_paused = true)]
async fn a_gate_of_no_permits_is_shut_until_it_grows() {
    let gate = gate(1, 8);
    gate.resize(0);
    assert!(gate.try_acquire(here()).expect("open").is_none());
    let mut waiter = Box::pin(Priority::Admin.scope(gate.acquire(here())));
    assert!(waiter.as_mut().now_or_never().is_none());
    gate.resize(1);
    assert!(waiter.now_or_never().expect("its turn").is_ok());
}

/// Fails when a waiter that goes away keeps what it was handed.
#[tokio::test(start_paused = true)]
async fn a_permit_handed_to_a_waiter_that_is_gone_goes_to_the_next() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..3).map(|_| Box::pin(gate.acquire(here()))).collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
    drop(held);
    assert_eq!((gate.stats().held, gate.stats().waiting), (1, 2), "handed to the first");
    // The first two never look: the first holds it already, the second only then.
    drop(waiters.remove(0));
    assert_eq!((gate.stats().held, gate.stats().waiting), (1, 1));
    drop(waiters.remove(0));
    let permit = waiters.remove(0).now_or_never().expect("its turn").expect("open");
    assert_eq!((gate.stats().held, gate.stats().cancelled), (1, 2));
    drop(permit);
    assert!(gate.try_acquire(here()).expect("open").is_some());
}

/// A waiter in the middle that goes away leaves the others in their order.
#[tokio::test(start_paused = true)]
async fn whoever_goes_away_leaves_no_gap() {
    for gone in [[0, 1], [1, 2], [3, 4], [0, 4], [4, 0]] {
        let gate = gate(1, 8);
        let held = gate.acquire(here()).await.expect("a free permit");
        let mut waiters: Vec<_> = (0..5).map(|_| Some(Box::pin(gate.acquire(here())))).collect();
        for waiter in waiters.iter_mut().flatten() {
            assert!(waiter.as_mut().now_or_never().is_none());
        }
        for number in gone {
            waiters[number] = None;
        }
        assert_eq!(gate.stats().waiting, 3);
        drop(held);
        for waiter in waiters.iter_mut().flatten() {
            let permit = waiter.as_mut().now_or_never().expect("its turn, in order");
            drop(permit.expect("open"));
        }
        assert_eq!((gate.stats().waiting, gate.stats().held), (0, 0), "without {gone:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_wait_is_known() {
    let gate = gate(1, 8);
    let held = gate.acquire(here()).await.expect("a free permit");
    assert_eq!(gate.stats().oldest_wait, Duration::ZERO);
    let mut first = Box::pin(Priority::Batch.scope(gate.acquire(here())));
    assert!(first.as_mut().now_or_never().is_none());
    advance(TIMEOUT / 4).await;
    let mut second = Box::pin(gate.acquire(here()));
    assert!(second.as_mut().now_or_never().is_none());
    advance(TIMEOUT / 4).await;
    assert_eq!(gate.stats().oldest_wait, TIMEOUT / 2);
    drop(first);
    assert_eq!(gate.stats().oldest_wait, TIMEOUT / 4);
    drop(held);
    let permit = second.now_or_never().expect("its turn").expect("open");
    assert_eq!(permit.waited(), TIMEOUT / 4);
}
