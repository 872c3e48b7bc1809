//! Callers whose turn would come too late are told at once, and nobody else is.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, advance};

use super::{Gate, GateError, gate, here};
use crate::{Deadline, Priority};

const HOLD: Duration = Duration::from_millis(100);
/// Holds after which the gate predicts.
const LEARNED: usize = 16;

/// Holds a permit for `hold`, `times` in a row.
async fn hold(gate: &Gate, hold: Duration, times: usize) {
    for _ in 0..times {
        let permit = gate.acquire(here()).await.expect("a free permit");
        advance(hold).await;
        drop(permit);
    }
}

fn predicted(outcome: Option<Result<super::super::GatePermit, GateError>>) -> Option<Duration> {
    match outcome {
        Some(Err(GateError::Shed { predicted, .. })) => predicted,
        None | Some(Ok(_) | Err(GateError::Timeout { .. } | GateError::Closed)) => None,
    }
}

/// Fails when nothing is predicted: the caller would wait for its deadline in vain.
#[tokio::test(start_paused = true)]
async fn a_turn_after_the_deadline_is_refused_at_once() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED).await;
    assert_eq!(gate.stats().hold_estimate, HOLD);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..4).map(|_| Box::pin(gate.acquire(here()))).collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));

    // Fifth in line for one permit held for 100 ms at a time.
    let soon = Deadline::after(HOLD * 4).scope(gate.acquire(here())).now_or_never();
    assert_eq!(predicted(soon), Some(HOLD * 5));
    assert!(Deadline::after(HOLD * 6).scope(gate.acquire(here())).now_or_never().is_none());
    let stats = gate.stats();
    assert_eq!((stats.shed, stats.shed_predicted, stats.waiting), (0, 1, 4));
    // Admin is never refused for it.
    let admin = Priority::Admin.scope(gate.acquire(here()));
    assert!(Deadline::after(HOLD / 10).scope(admin).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn too_few_holds_predict_nothing() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED - 1).await;
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiter = Box::pin(gate.acquire(here()));
    assert!(waiter.as_mut().now_or_never().is_none());
    assert!(Deadline::after(HOLD / 10).scope(gate.acquire(here())).now_or_never().is_none());
    assert_eq!(gate.stats().hold_estimate, Duration::ZERO);
}

/// Fails when the next in line is refused too: a wrong estimate would shut the gate for good.
#[tokio::test(start_paused = true)]
async fn the_next_in_line_may_always_wait() {
    let gate = gate(1, 100);
    hold(&gate, HOLD * 100, LEARNED).await;
    let held = gate.acquire(here()).await.expect("a free permit");
    let mut probe = Box::pin(Deadline::after(HOLD).scope(gate.acquire(here())));
    assert!(probe.as_mut().now_or_never().is_none());
    let second = Deadline::after(HOLD).scope(gate.acquire(here())).now_or_never();
    assert!(predicted(second).is_some());
    // The server is fast again: each hold brings the estimate down, until nobody is refused.
    drop(held);
    drop(probe.now_or_never().expect("its turn").expect("open"));
    hold(&gate, HOLD / 100, 100).await;
    let estimate = gate.stats().hold_estimate;
    assert!(estimate < HOLD / 50, "{estimate:?}");
}

/// Fails when the estimate does not fade: callers would be refused for what was slow long ago.
#[tokio::test(start_paused = true)]
async fn a_quiet_spell_is_not_held_against_anyone() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED).await;
    advance(Duration::from_secs(10)).await;
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiter = Box::pin(gate.acquire(here()));
    assert!(waiter.as_mut().now_or_never().is_none());
    // Ten half-lives: 100 ms have become a tenth of one.
    assert!(Deadline::after(HOLD / 10).scope(gate.acquire(here())).now_or_never().is_none());
    assert_eq!(gate.stats().shed_predicted, 0);
}

/// Fails when a hold counts in full, however long it was.
#[tokio::test(start_paused = true)]
async fn one_stuck_statement_sheds_nobody() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED).await;
    hold(&gate, HOLD * 600, 1).await;
    let estimate = gate.stats().hold_estimate;
    assert!(estimate < HOLD * 2, "a minute among holds of {HOLD:?} made it {estimate:?}");
    // A server that became slow is believed soon.
    hold(&gate, HOLD * 600, 16).await;
    let estimate = gate.stats().hold_estimate;
    assert!(estimate > HOLD * 300, "{estimate:?}");
}

/// Batch counts the callers of Interactive that go before it.
#[tokio::test(start_paused = true)]
async fn the_forecast_knows_the_priorities() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED).await;
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = (0..12).map(|_| Box::pin(gate.acquire(here()))).collect();
    waiters.truncate(9);
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
    for (priority, expected) in [(Priority::Interactive, HOLD * 10), (Priority::Batch, HOLD * 9)] {
        let soon = Deadline::after(HOLD).scope(priority.scope(gate.acquire(here())));
        assert_eq!(predicted(soon.now_or_never()), Some(expected), "{priority}");
    }
}

/// Fails when the time before a hold really begins counts: after an outage, in which every permit
/// waited for its connection, callers would be refused that could be served.
#[tokio::test(start_paused = true)]
async fn what_came_before_the_use_does_not_count() {
    let gate = gate(1, 100);
    for _ in 0..LEARNED {
        let permit = gate.acquire(here()).await.expect("a free permit");
        advance(HOLD * 100).await;
        permit.restart_hold(Instant::now());
        advance(HOLD).await;
        assert_eq!(gate.oldest_holders(1)[0].held, HOLD * 101);
        drop(permit);
    }
    assert_eq!(gate.stats().hold_estimate, HOLD);
}

/// Fails when the cleaning after a caller that went away counts as its hold: after a storm of
/// cancelled calls, callers would be refused that could be served.
#[tokio::test(start_paused = true)]
async fn what_is_cleaned_after_a_caller_does_not_count() {
    let gate = gate(1, 100);
    hold(&gate, HOLD, LEARNED).await;
    for _ in 0..LEARNED {
        let permit = gate.acquire(here()).await.expect("a free permit");
        advance(HOLD / 2).await;
        permit.disregard_hold();
        advance(HOLD * 100).await;
        drop(permit);
    }
    assert_eq!(gate.stats().hold_estimate, HOLD);
    // A burst that can be served in time is let in.
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut burst: Vec<_> =
        (0..8).map(|_| Box::pin(Deadline::after(HOLD * 10).scope(gate.acquire(here())))).collect();
    assert!(burst.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
}
