//! How long to wait before the next attempt.

use std::time::Duration;

/// Full-jitter exponential backoff: a random time up to `base * 2^attempt`, never above `max`.
///
/// Full jitter spreads a herd of clients over the whole interval, so that a
/// server coming back is not hit by all of them at once
/// (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    max: Duration,
}

impl Backoff {
    /// Waits below `base` after the first failure, and never above `max`.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// A random wait after `failures` failures in a row, the one just seen included.
    pub fn delay(&self, failures: u32) -> Duration {
        self.ceiling(failures).mul_f64(rand::random::<f64>())
    }

    /// The longest wait that [`Backoff::delay`] may give after `failures` failures.
    pub fn ceiling(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    //! The ceiling is exact; the delay is random below it.

    use std::time::Duration;

    use super::Backoff;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));

    #[test]
    fn ceiling_doubles_up_to_the_maximum() {
        for (failures, expected_ms) in
            [(0, 100), (1, 100), (2, 200), (5, 1600), (6, 3000), (u32::MAX, 3000)]
        {
            assert_eq!(BACKOFF.ceiling(failures), Duration::from_millis(expected_ms), "{failures}");
        }
    }

    #[test]
    fn delay_is_spread_below_the_ceiling() {
        let delays: Vec<_> = (0..1000).map(|_| BACKOFF.delay(3)).collect();
        assert!(delays.iter().all(|delay| *delay <= BACKOFF.ceiling(3)));
        let below_half = delays.iter().filter(|delay| **delay < BACKOFF.ceiling(3) / 2).count();
        assert!((300..700).contains(&below_half), "{below_half} of 1000 below half");
    }
}
