//! When a call is tried again, and after which pause.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_pooling::Backoff;

/// Longest pause that a peer may ask for and get. A call that waits holds its memory and
/// mostly a request of our own caller, and so an overloaded peer would fill us up too:
/// past a blink, the hint goes to the caller, who holds nothing while it waits.
const ASKED_MAX: Duration = Duration::from_millis(250);

/// Pause before the second attempt is random below the first, later ones below the
/// second, which is [`ASKED_MAX`] for the same reason.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), ASKED_MAX);

/// What a full budget holds, in tenths of a failed attempt.
const BUDGET_MAX: u32 = 1000;
/// What a failed attempt costs.
const FAILURE_COST: u32 = 10;
/// What an answered call gives back.
const ANSWER_GAIN: u32 = 1;

/// Keeps retries a small part of the load on a peer that keeps failing.
///
/// Each failed attempt takes ten times what an answered call gives back, and
/// below one half nothing is tried again. Source: gRPC proposal A6, "Throttling
/// Retry Attempts and Hedged RPCs".
#[derive(Debug)]
pub(super) struct Budget(AtomicU32);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU32::new(BUDGET_MAX))
    }
}

impl Budget {
    /// Notes an answered call.
    pub(super) fn deposit(&self) {
        let gain = |left: u32| (left < BUDGET_MAX).then(|| (left + ANSWER_GAIN).min(BUDGET_MAX));
        // Not updated means full.
        let _full = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, gain);
    }

    /// Notes a failed attempt; whether it may be repeated.
    pub(super) fn withdraw(&self) -> bool {
        let cost = |left: u32| Some(left.saturating_sub(FAILURE_COST));
        let left =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, cost).unwrap_or_default();
        left.saturating_sub(FAILURE_COST) > BUDGET_MAX / 2
    }
}

/// How long to wait after the failed `attempt`: what the peer `asked` for and a random
/// time. `None` when that is too long to wait for, or longer than there is time `left`.
pub(super) fn pause(attempt: u32, asked: Duration, left: Duration) -> Option<Duration> {
    let pause = asked.saturating_add(BACKOFF.delay(attempt));
    (asked <= ASKED_MAX && pause < left).then_some(pause)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::body::Body;
    use tonic::{Code, Status};

    use super::super::{reply, unreachable};
    use super::{ASKED_MAX, Budget, pause};
    use crate::error;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_peer_that_keeps_failing_is_left_alone_until_it_answers() {
        let budget = Budget::default();
        let allowed = (0..1000).filter(|_| budget.withdraw()).count();
        assert_eq!(allowed, 49);
        for _ in 0..600 {
            budget.deposit();
        }
        assert!(budget.withdraw());
    }

    #[test]
    fn waits_at_least_as_long_as_the_peer_asks_and_never_long() {
        let too_long = ASKED_MAX + Duration::from_millis(1);
        assert!(pause(1, ASKED_MAX, LONG).is_some_and(|pause| pause >= ASKED_MAX));
        assert_eq!(pause(1, too_long, LONG), None);
        assert_eq!(pause(1, ASKED_MAX, ASKED_MAX), None, "past the deadline");
        assert!(pause(9, Duration::ZERO, LONG).is_some_and(|pause| pause <= ASKED_MAX));
    }

    /// Fails when the hint that we give to our caller is taken for a wish of the peer.
    #[test]
    fn a_peer_asks_for_a_pause_in_its_status_alone() {
        let busy = error::unavailable("grpc.forebay", "BUSY", LONG);
        for (result, asked) in [
            (Ok(busy.into_http()), Some(LONG)),
            (Ok(Status::unavailable("").into_http()), Some(Duration::ZERO)),
            (Ok(Status::internal("").into_http()), None),
            (Ok(http::Response::new(Body::empty())), None),
            (Err(unreachable(std::io::Error::other("refused"))), Some(Duration::ZERO)),
            (Err(Status::new(Code::DeadlineExceeded, "")), None),
        ] {
            assert_eq!(reply::unavailable(&result), asked, "{result:?}");
        }
    }
}
