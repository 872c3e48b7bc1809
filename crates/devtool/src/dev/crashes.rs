//! When to start something again that has ended by itself, and when to give up.

use std::collections::VecDeque;
use std::time::Duration;

/// Ends within this time count together.
const WINDOW: Duration = Duration::from_secs(60);

/// So many ends within [`WINDOW`] are a crash loop.
const ENDS_MAX: usize = 5;

/// The pause before the first start again; it doubles with each end in the window.
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The ends of one process, by the time since some fixed instant.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    ends: VecDeque<Duration>,
}

/// What to do about an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Start it again after this pause.
    Again(Duration),
    /// It will not stay up: leave it.
    GiveUp,
}

impl Crashes {
    /// Counts an end at `now`.
    pub(crate) fn ended(&mut self, now: Duration) -> Verdict {
        self.ends.retain(|end| now.saturating_sub(*end) < WINDOW);
        self.ends.push_back(now);
        if self.ends.len() >= ENDS_MAX {
            return Verdict::GiveUp;
        }
        let doublings = u32::try_from(self.ends.len() - 1).unwrap_or(u32::MAX);
        let pause = PAUSE_MIN.saturating_mul(2_u32.saturating_pow(doublings));
        Verdict::Again(pause.min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(seconds: &[u64]) -> Vec<Verdict> {
        let mut crashes = Crashes::default();
        seconds.iter().map(|at| crashes.ended(Duration::from_secs(*at))).collect()
    }

    #[test]
    fn a_loop_is_left_and_a_rare_crash_is_not() {
        let again = |millis| Verdict::Again(Duration::from_millis(millis));
        assert_eq!(
            verdicts(&[0, 1, 2, 3, 4]),
            [again(200), again(400), again(800), again(1600), Verdict::GiveUp]
        );
        assert_eq!(verdicts(&[0, 61, 122, 183, 244, 305]), [again(200); 6]);
    }
}
