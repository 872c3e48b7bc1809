//! How a failing server is asked, under a paused clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tokio::time::{advance, sleep};

use super::{Breaker, BreakerConfig, BreakerState};
use crate::Backoff;

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
enum Refused {
    #[error("nobody listens")]
    Nobody,
    #[error("wrong password")]
    Password,
}

const PAUSE_MAX: Duration = BreakerConfig::<Refused>::PAUSE_MAX;

fn breaker() -> Breaker<Refused> {
    Breaker::new(BreakerConfig {
        is_permanent: |cause| *cause == Refused::Password,
        ..BreakerConfig::new("test")
    })
}

async fn fail(breaker: &Breaker<Refused>, attempts: &AtomicU32) -> bool {
    let connect = async {
        attempts.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(1)).await;
        Err::<(), _>(Refused::Nobody)
    };
    breaker.attempt(connect).await.is_err()
}

/// Fails when attempts are not held back: 1,000 callers would make 1,000 of them.
#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_by_one_attempt_at_a_time() {
    let (breaker, attempts) = (breaker(), AtomicU32::new(0));
    assert!(fail(&breaker, &attempts).await);
    assert_eq!(breaker.stats().state, BreakerState::Open);
    let all = join_all((0..1000).map(|_| fail(&breaker, &attempts))).await;
    assert!(all.into_iter().all(|failed| failed));
    let made = attempts.load(Ordering::Relaxed);
    // The pause is random and may be next to nothing.
    assert!(made < 50, "{made} attempts");
    let stats = breaker.stats();
    assert_eq!((stats.opened, stats.attempts_failed), (1, u64::from(made)));
    assert_eq!(stats.attempts_refused, 1001 - u64::from(made));
}

#[tokio::test(start_paused = true)]
async fn everyone_who_listens_hears_the_cause() {
    let (breaker, attempts) = (breaker(), AtomicU32::new(0));
    let mut listeners = [breaker.listen(), breaker.listen()];
    assert!(fail(&breaker, &attempts).await);
    for listener in &mut listeners {
        assert_eq!(listener.next().await, Refused::Nobody);
    }
    // What happened before does not concern who comes later.
    let mut late = breaker.listen();
    assert!(late.next().now_or_never().is_none());
    // An attempt that is not made wakes them too: nobody else will.
    let waiter = breaker.attempt(async { Ok(()) });
    if waiter.await.is_err() {
        assert_eq!(late.next().now_or_never(), Some(Refused::Nobody));
    }
}

/// Fails when each of the attempts that went out together makes the pause longer.
#[tokio::test(start_paused = true)]
async fn attempts_that_went_out_together_count_as_one() {
    let config = BreakerConfig {
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_secs(3600)),
        ..BreakerConfig::new("test")
    };
    let (breaker, attempts) = (Breaker::new(config), AtomicU32::new(0));
    join_all((0..30).map(|_| fail(&breaker, &attempts))).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 30);
    let retry_at = breaker.retry_at().expect("a pause");
    let pause = retry_at.saturating_duration_since(tokio::time::Instant::now());
    assert!(pause <= Duration::from_millis(1), "{pause:?} after one failure of thirty attempts");
}

/// Attempts that say when they started and end when they are told to.
struct Attempts {
    breaker: Arc<Breaker<Refused>>,
    started: Arc<AtomicU32>,
    go: Arc<Semaphore>,
}

impl Attempts {
    fn spawn(&self, count: u32) -> Vec<tokio::task::JoinHandle<Result<(), Refused>>> {
        let attempt = |_| {
            let (breaker, started) = (Arc::clone(&self.breaker), Arc::clone(&self.started));
            let go = Arc::clone(&self.go);
            tokio::spawn(async move {
                let connect = async {
                    started.fetch_add(1, Ordering::Relaxed);
                    go.acquire().await.expect("open").forget();
                    Ok(())
                };
                breaker.attempt(connect).await
            })
        };
        (0..count).map(attempt).collect()
    }

    /// Attempts that are out once nobody moves any more.
    async fn started(&self) -> u32 {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.started.load(Ordering::Relaxed)
    }
}

async fn after_an_outage() -> Attempts {
    let breaker = Arc::new(breaker());
    assert!(fail(&breaker, &AtomicU32::new(0)).await);
    advance(PAUSE_MAX).await;
    Attempts { breaker, started: Arc::default(), go: Arc::new(Semaphore::new(0)) }
}

/// Fails when all who wait are admitted at the first success.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_is_met_by_one_then_two_four_and_eight() {
    let attempts = after_an_outage().await;
    let tasks = attempts.spawn(100);
    let mut out = Vec::new();
    let mut ended = 0;
    for step in [1, 2, 4, 8] {
        let started = attempts.started().await;
        out.push(started - ended);
        assert_eq!(attempts.breaker.stats().state, BreakerState::HalfOpen);
        attempts.go.add_permits(step);
        ended = started;
    }
    assert_eq!(out, [1, 2, 4, 8]);
    assert_eq!(attempts.started().await, 100, "closed: all the others at once");
    assert_eq!(attempts.breaker.stats().state, BreakerState::Closed);
    assert_eq!(attempts.breaker.cause(), None);
    attempts.go.add_permits(100);
    assert!(join_all(tasks).await.into_iter().all(|outcome| outcome.is_ok_and(|o| o.is_ok())));
}

/// Fails when only a full last step closes it: a small connection pool would never get there.
#[tokio::test(start_paused = true)]
async fn without_a_herd_one_success_closes_it() {
    let attempts = after_an_outage().await;
    attempts.go.add_permits(1);
    assert!(attempts.breaker.attempt(async { Ok(()) }).await.is_ok());
    assert_eq!(attempts.breaker.stats().state, BreakerState::Closed);
}

/// Fails when an attempt that was dropped keeps its turn: nobody could ask the server again.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_dropped_gives_its_turn_to_the_next() {
    let attempts = after_an_outage().await;
    let probe = attempts.spawn(1).remove(0);
    assert_eq!(attempts.started().await, 1);
    let next = attempts.spawn(1).remove(0);
    assert_eq!(attempts.started().await, 1, "the second waits for its turn");
    probe.abort();
    assert_eq!(attempts.started().await, 2);
    attempts.go.add_permits(1);
    assert!(next.await.expect("it ends").is_ok());
    assert_eq!(attempts.breaker.stats().state, BreakerState::Closed);
}

/// Fails when those who wait for their turn are not told that the probe failed.
#[tokio::test(start_paused = true)]
async fn a_failed_probe_opens_it_again_for_all() {
    let attempts = after_an_outage().await;
    let breaker = &attempts.breaker;
    let (probe, second) = tokio::join!(
        breaker.attempt(async {
            sleep(Duration::from_millis(1)).await;
            Err::<(), _>(Refused::Password)
        }),
        breaker.attempt(async { Ok(()) }),
    );
    assert_eq!((probe, second), (Err(Refused::Password), Err(Refused::Password)));
    let stats = breaker.stats();
    assert_eq!((stats.state, stats.opened), (BreakerState::Open, 1), "the same outage");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_cause_trips_at_once_and_for_long() {
    let config = BreakerConfig {
        trips_after: 3,
        is_permanent: |cause: &Refused| *cause == Refused::Password,
        ..BreakerConfig::new("test")
    };
    let breaker = Breaker::new(config);
    for expected in [BreakerState::Closed, BreakerState::Closed, BreakerState::Open] {
        let attempt = breaker.attempt(async { Err::<(), _>(Refused::Nobody) });
        assert_eq!(attempt.await, Err(Refused::Nobody));
        assert_eq!(breaker.stats().state, expected);
    }
    advance(PAUSE_MAX).await;
    assert!(breaker.attempt(async { Ok(()) }).await.is_ok());
    let attempt = breaker.attempt(async { Err::<(), _>(Refused::Password) });
    assert_eq!(attempt.await, Err(Refused::Password));
    assert_eq!(breaker.stats().state, BreakerState::Open);
    let retry_at = breaker.retry_at().expect("a pause");
    let pause = retry_at.saturating_duration_since(tokio::time::Instant::now());
    assert!(pause >= PAUSE_MAX / 2 && pause <= PAUSE_MAX, "{pause:?}");
}

/// The bound that is promised: pauses never grow beyond the maximum, however long it was away.
#[tokio::test(start_paused = true)]
async fn a_returning_server_is_found_within_a_second() {
    for _ in 0..20 {
        let (breaker, attempts) = (breaker(), AtomicU32::new(0));
        for _ in 0..200 {
            assert!(fail(&breaker, &attempts).await);
            sleep(Duration::from_millis(50)).await;
        }
        let back = tokio::time::Instant::now();
        while breaker.attempt(async { Ok(()) }).await.is_err() {
            let retry_at = breaker.retry_at().expect("a pause");
            tokio::time::sleep_until(retry_at).await;
        }
        assert!(back.elapsed() < Duration::from_secs(1), "{:?}", back.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_success_shows_that_the_server_is_there() {
    let breaker = breaker();
    let (slow, fast) = tokio::join!(
        breaker.attempt(async {
            sleep(Duration::from_millis(1)).await;
            Ok(())
        }),
        breaker.attempt(async { Err::<(), _>(Refused::Nobody) }),
    );
    assert_eq!((slow, fast), (Ok(()), Err(Refused::Nobody)));
    assert_eq!(breaker.stats().state, BreakerState::HalfOpen);
    assert!(breaker.attempt(async { Ok(()) }).await.is_ok(), "no pause is left");
}
