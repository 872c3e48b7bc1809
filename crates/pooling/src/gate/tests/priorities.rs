//! Who goes first among the classes, and what is kept for Admin.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::{Gate, GateConfig, GateError, TIMEOUT, gate, here};
use crate::Priority;
use crate::Priority::{Admin, Batch, Interactive};

/// Lets a waiter of each of `priorities` in one after the other, and returns the order.
async fn order_of(gate: &Gate, priorities: &[Priority]) -> Vec<Priority> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = Admin.scope(gate.acquire(here())).await.expect("a free permit");
    let mut waiters = Vec::new();
    for &priority in priorities {
        let (gate, order) = (gate.clone(), Arc::clone(&order));
        waiters.push(tokio::spawn(priority.scope(async move {
            let permit = gate.acquire(here()).await.expect("a permit in time");
            order.lock().push(priority);
            drop(permit);
        })));
        tokio::task::yield_now().await;
    }
    drop(first);
    for waiter in waiters {
        waiter.await.expect("the waiter ends");
    }
    Arc::try_unwrap(order).expect("all waiters ended").into_inner()
}

/// Fails when Batch is served first come first served with Interactive, or only once nobody of
/// Interactive waits.
#[tokio::test(start_paused = true)]
async fn batch_gets_one_permit_for_eight_of_interactive() {
    let waiters = [[Batch; 4], [Interactive; 4], [Interactive; 4], [Interactive; 4]];
    let more = [[Interactive; 4], [Interactive; 4]];
    let waiters: Vec<_> = waiters.into_iter().chain(more).flatten().collect();
    let order = order_of(&gate(1, 100), &waiters).await;
    let batch: Vec<_> = (0..order.len()).filter(|turn| order[*turn] == Batch).collect();
    // Twenty of Interactive: after eight and sixteen of them it is Batch's turn, then the rest.
    assert_eq!(batch, [8, 17, 22, 23], "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn admin_is_served_first() {
    let order = order_of(&gate(1, 100), &[Interactive, Batch, Admin, Interactive, Admin]).await;
    assert_eq!(order, [Admin, Admin, Interactive, Interactive, Batch]);
}

/// Fails when the reserved permit is given to others, also when it comes free.
#[tokio::test(start_paused = true)]
async fn reserved_permits_are_for_admin_only() {
    let gate = Gate::new(GateConfig::new(4, 8, TIMEOUT));
    assert_eq!(gate.stats().reserved, 1);
    let mut held: Vec<_> = (0..3).map(|_| gate.try_acquire(here()).expect("open")).collect();
    assert!(held.iter().all(Option::is_some));
    assert!(gate.try_acquire(here()).expect("open").is_none(), "the fourth is reserved");
    let mut waiter = Box::pin(gate.acquire(here()));
    assert!(waiter.as_mut().now_or_never().is_none());

    let admin = Admin.scope(gate.acquire(here())).await.expect("the reserved permit");
    assert_eq!(gate.stats().held, 4);
    drop(admin);
    assert!(waiter.as_mut().now_or_never().is_none(), "it stays reserved once it is back");

    // A permit of the others that comes back goes to the others.
    held.pop();
    waiter.now_or_never().expect("its turn").expect("open");
}

#[test]
fn the_others_always_keep_a_permit() {
    for (permits, reserved, expected) in [
        (0, None, 0),
        (1, None, 0),
        (3, None, 0),
        (4, None, 1),
        (64, None, 1),
        (4, Some(2), 2),
        (2, Some(2), 1),
        (1, Some(2), 0),
        (8, Some(0), 0),
    ] {
        let config = GateConfig { reserved, ..GateConfig::new(permits, 0, Duration::ZERO) };
        assert_eq!(Gate::new(config).stats().reserved, expected, "{permits} {reserved:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn admin_waits_in_a_small_queue_of_its_own() {
    let gate = gate(1, 1);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = [Interactive]
        .into_iter()
        .chain([Admin; GateConfig::ADMIN_WAITING_MAX])
        .map(|priority| Box::pin(priority.scope(gate.acquire(here()))))
        .collect();
    assert!(waiters.iter_mut().all(|waiter| waiter.as_mut().now_or_never().is_none()));
    let stats = gate.stats();
    assert_eq!(stats.waiting_by_priority, [1, 0, GateConfig::ADMIN_WAITING_MAX]);
    assert_eq!(stats.waiting_of(Admin), GateConfig::ADMIN_WAITING_MAX);
    for priority in Priority::ALL {
        let refused = priority.scope(gate.acquire(here())).now_or_never().expect("an answer");
        assert!(matches!(refused, Err(GateError::Shed { predicted: None, .. })), "{priority}");
    }
    // The waiters of Admin take no place from the others.
    drop(waiters.remove(0));
    assert!(gate.acquire(here()).now_or_never().is_none());
}

/// Fails when Batch may take the whole queue: an import would shed the callers of people.
#[tokio::test(start_paused = true)]
async fn batch_leaves_room_in_the_queue() {
    let gate = gate(1, 5);
    let _held = gate.acquire(here()).await.expect("a free permit");
    let mut waiters: Vec<_> = [Batch, Batch, Batch, Interactive, Interactive]
        .into_iter()
        .map(|priority| Box::pin(priority.scope(gate.acquire(here()))))
        .collect();
    for waiter in &mut waiters[..3] {
        assert!(waiter.as_mut().now_or_never().is_none());
    }
    let refused = Batch.scope(gate.acquire(here())).now_or_never().expect("an answer");
    assert_eq!(refused.err(), Some(GateError::Shed { waiting: 3, predicted: None }));
    for waiter in &mut waiters[3..] {
        assert!(waiter.as_mut().now_or_never().is_none());
    }
}
