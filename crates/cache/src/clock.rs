//! The wall clock of a process. It says how long what Redis holds has left to live, nothing else.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a process takes for the time of day. The product hands in the system's.
///
/// Clocks of two processes may differ by hours and step at any time. Whether an entry may be served
/// is decided by versions, marks and the monotonic clock; this one only shortens the life of an
/// entry in L1 that was read from L2, to a tenth of its time to live at the least.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl WallClock {
    /// A clock that says what `read` returns, so that a test can set it wrong.
    pub fn new(read: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Milliseconds since 1970; zero before.
    pub(crate) fn unix_ms(&self) -> u64 {
        let since = (self.0)().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Time since an instant that this clock or another one showed; zero if it is to come.
    pub(crate) fn since(&self, unix_ms: u64) -> Duration {
        Duration::from_millis(self.unix_ms().saturating_sub(unix_ms))
    }
}

impl Default for WallClock {
    /// The system's.
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WallClock").field(&self.unix_ms()).finish()
    }
}

/// How long an entry of L2 that was filled at `filled_at_ms` may live in L1.
///
/// The clock of the process that filled the entry may be ahead or behind. Behind, the entry seems
/// older than it is: it gets a tenth of its time in any case, so that it is of use at all. Ahead, it
/// seems new: it gets its whole time once more and no longer, because Redis counts its own copy down
/// by a clock of its own.
pub(crate) fn left(clock: &WallClock, filled_at_ms: u64, ttl: Duration) -> Duration {
    ttl.saturating_sub(clock.since(filled_at_ms)).max(ttl / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Fails if a wrong clock makes an entry immortal or useless.
    #[test]
    fn whatever_the_clocks_say_an_entry_lives_for_a_tenth_of_its_time_to_the_whole() {
        const FILLED_AT: u64 = 1_800_000_000_000;
        let left_at = |unix_ms: u64| {
            let clock =
                WallClock::new(move || SystemTime::UNIX_EPOCH + Duration::from_millis(unix_ms));
            left(&clock, FILLED_AT, HOUR)
        };
        assert_eq!(left_at(FILLED_AT), HOUR);
        assert_eq!(left_at(FILLED_AT + 600_000), HOUR * 5 / 6);
        assert_eq!(left_at(FILLED_AT - 3_600_000), HOUR, "filled by a clock that is ahead");
        assert_eq!(left_at(FILLED_AT + 3_600_000), HOUR / 10, "by one that is behind");
        assert_eq!((left_at(0), left_at(FILLED_AT * 2)), (HOUR, HOUR / 10));
        let before_1970 = WallClock::new(|| SystemTime::UNIX_EPOCH - HOUR);
        assert_eq!(left(&before_1970, FILLED_AT, HOUR), HOUR);
    }
}
