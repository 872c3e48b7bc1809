//! Deadlines under a paused clock.

use std::time::Duration;

use tokio::time::advance;

use super::Deadline;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn scope_only_brings_a_deadline_nearer() {
    for (outer, inner, expected) in [(5, 2, 2), (2, 5, 2), (3, 3, 3)] {
        let left = Deadline::after(SECOND * outer)
            .scope(async {
                Deadline::after(SECOND * inner)
                    .scope(async { Deadline::current().map(|deadline| deadline.remaining()) })
                    .await
            })
            .await;
        assert_eq!(left, Some(SECOND * expected), "outer {outer} s, inner {inner} s");
    }
}

#[tokio::test(start_paused = true)]
async fn within_is_cut_to_the_deadline_in_scope() {
    assert_eq!(Deadline::current(), None);
    assert_eq!(Deadline::within(SECOND * 9).remaining(), SECOND * 9);
    let left = Deadline::after(SECOND).scope(async { Deadline::within(SECOND * 9).remaining() });
    assert_eq!(left.await, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_passed_deadline_has_nothing_left() {
    let deadline = Deadline::after(SECOND);
    assert!(!deadline.has_passed());
    advance(SECOND * 2).await;
    assert!(deadline.has_passed());
    assert_eq!(deadline.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_starts_without_a_deadline() {
    let inherited = Deadline::after(SECOND)
        .scope(async { tokio::spawn(async { Deadline::current() }).await })
        .await;
    assert_eq!(inherited.expect("the task ends"), None);
}

#[tokio::test(start_paused = true)]
async fn an_endless_timeout_does_not_overflow() {
    assert!(Deadline::after(Duration::MAX).remaining() > SECOND * 3600);
}
