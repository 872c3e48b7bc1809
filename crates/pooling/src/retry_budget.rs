//! How many retries there may be, so that they never become the load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A token bucket: retries may be a tenth of the requests that succeeded.
///
/// A server that fails a few requests gets them again; one that fails all of
/// them gets a tenth more load, not a multiple. Up to [`RetryBudget::RESERVE`]
/// tokens come back with time, one a second, so that a quiet process may retry
/// as well. The bucket holds at most [`RetryBudget::TOKENS_MAX`], so that a good
/// day does not pay for a storm.
///
/// A connection that served and was lost brings a token along, for the work that it
/// felled ([`RetryBudget::connection_lost`]). One event, such as a restart or an
/// operator who ends all sessions, fells as much work as there are connections, and
/// is over with it. It says nothing about load: a server that has too much of that
/// refuses or is slow, and does not end what it serves. One that is lost to its first
/// caller brings none, so there are fewer of these tokens than callers who were served,
/// and work that brings its connection down each time is soon out of them (ADR 0006).
#[derive(Debug)]
pub struct RetryBudget {
    /// Tenths of a token.
    tenths: AtomicU64,
    tokens_max: u64,
    refilled: Mutex<Instant>,
    granted: AtomicU64,
    denied: AtomicU64,
}

impl RetryBudget {
    /// Tokens at the start, and up to which time refills the bucket.
    pub const RESERVE: u64 = 10;
    /// Tokens that it holds at most, unless there are more connections: they may be lost all at
    /// once.
    pub const TOKENS_MAX: u64 = 100;
    /// The time in which one token of the reserve comes back.
    pub const REFILL_EVERY: Duration = Duration::from_secs(1);
    const TENTHS: u64 = 10;

    /// One with its reserve.
    pub fn new() -> Self {
        Self::for_connections(0)
    }

    /// One whose owner tells of lost connections, of which there are up to `connections_max`.
    pub fn for_connections(connections_max: u32) -> Self {
        Self {
            tenths: AtomicU64::new(Self::RESERVE * Self::TENTHS),
            tokens_max: Self::TOKENS_MAX.max(u64::from(connections_max)),
            refilled: Mutex::new(Instant::now()),
            granted: AtomicU64::new(0),
            denied: AtomicU64::new(0),
        }
    }

    /// A request succeeded: a tenth of a retry is earned.
    pub fn succeeded(&self) {
        self.add(1, self.tokens_max);
    }

    /// A connection that had served a caller before was lost with another's work under way.
    pub fn connection_lost(&self) {
        self.add(Self::TENTHS, self.tokens_max);
    }

    /// Whether a retry may go out; one that may has paid for itself.
    pub fn may_retry(&self) -> bool {
        self.refill();
        let pay = |tenths: u64| tenths.checked_sub(Self::TENTHS);
        let is_granted =
            self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok();
        let counter = if is_granted { &self.granted } else { &self.denied };
        counter.fetch_add(1, Ordering::Relaxed);
        is_granted
    }

    /// Retries that went out so far.
    pub fn granted(&self) -> u64 {
        self.granted.load(Ordering::Relaxed)
    }

    /// Retries that did not go out because too many had.
    pub fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    /// Fills up the reserve by the time that passed. Only a retry needs it, so only a retry
    /// pays for the clock.
    fn refill(&self) {
        let mut refilled = self.refilled.lock();
        let now = Instant::now();
        let passed = now.saturating_duration_since(*refilled).as_nanos();
        let tokens = passed / Self::REFILL_EVERY.as_nanos();
        if tokens > 0 {
            *refilled = now;
            let tokens = u64::try_from(tokens).unwrap_or(u64::MAX).min(Self::RESERVE);
            self.add(tokens * Self::TENTHS, Self::RESERVE);
        }
    }

    /// Adds up to a level, and takes nothing from a bucket that is fuller.
    fn add(&self, tenths: u64, tokens_max: u64) {
        let max = tokens_max * Self::TENTHS;
        let add = |now: u64| (now < max).then(|| (now + tenths).min(max));
        // An error says that the bucket is full, and then there is nothing to do.
        let _is_full = self.tenths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_err();
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    //! What may be retried when.

    use tokio::time::advance;

    use super::RetryBudget;

    fn retries(budget: &RetryBudget, asked: u64) -> u64 {
        let before = budget.granted();
        (0..asked).for_each(|_| {
            budget.may_retry();
        });
        budget.granted() - before
    }

    /// Fails when retries are free.
    #[tokio::test(start_paused = true)]
    async fn a_tenth_of_the_requests_may_be_retried() {
        let budget = RetryBudget::new();
        assert_eq!(retries(&budget, 1000), RetryBudget::RESERVE);
        for _ in 0..500 {
            budget.succeeded();
        }
        assert_eq!(retries(&budget, 1000), 50);
        assert_eq!((budget.granted(), budget.denied()), (60, 1940));
    }

    /// Fails when a lost connection does not bring a token along, and when it brings one beyond the
    /// maximum.
    #[tokio::test(start_paused = true)]
    async fn lost_connections_pay_for_the_work_they_felled() {
        let budget = RetryBudget::new();
        assert_eq!(retries(&budget, 1000), RetryBudget::RESERVE);
        for _ in 0..5 {
            (0..20).for_each(|_| budget.connection_lost());
            assert_eq!(retries(&budget, 1000), 20);
        }
        (0..1000).for_each(|_| budget.connection_lost());
        assert_eq!(retries(&budget, 1000), RetryBudget::TOKENS_MAX);
        let large = RetryBudget::for_connections(300);
        (0..1000).for_each(|_| large.connection_lost());
        assert_eq!(retries(&large, 1000), 300, "all of them may be lost at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_good_day_does_not_pay_for_a_storm() {
        let budget = RetryBudget::new();
        for _ in 0..100_000 {
            budget.succeeded();
        }
        assert_eq!(retries(&budget, 1000), RetryBudget::TOKENS_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_process_may_retry_again_after_a_while() {
        let budget = RetryBudget::new();
        retries(&budget, 1000);
        advance(RetryBudget::REFILL_EVERY * 3).await;
        assert_eq!(retries(&budget, 1000), 3);
        advance(RetryBudget::REFILL_EVERY * 1000).await;
        assert_eq!(retries(&budget, 1000), RetryBudget::RESERVE, "no more than the reserve");
        // What was earned is not cut down to the reserve.
        for _ in 0..500 {
            budget.succeeded();
        }
        advance(RetryBudget::REFILL_EVERY * 1000).await;
        assert_eq!(retries(&budget, 1000), 50);
    }
}
