//! When a call is tried again, and after which pause.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_pooling::Backoff;
use tonic::Status;
use tonic_types::StatusExt as _;

/// Pause before the second attempt is random below the first, later ones below the second.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));

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

/// How long to wait after the failed `attempt`: a random time, and what the peer asked for.
pub(super) fn pause(attempt: u32, status: &Status) -> Duration {
    let asked =
        status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    asked.saturating_add(BACKOFF.delay(attempt))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Status;

    use super::{Budget, pause};
    use crate::error;

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
    fn waits_at_least_as_long_as_the_peer_asks() {
        let asked = Duration::from_secs(2);
        let status = error::unavailable("grpc.forebay", "BUSY", asked);
        assert!(pause(1, &status) >= asked);
        assert!(pause(9, &Status::unavailable("")) <= Duration::from_secs(1));
    }
}
