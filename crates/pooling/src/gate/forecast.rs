//! How long the next caller would wait, judged by how long permits were held of late.

use std::time::Duration;

use tokio::time::Instant;

/// Holds that must end before anything is predicted: fewer say nothing about the next one.
const HOLDS_MIN: u32 = 16;
/// Weight of the newest hold in the smoothed hold time: the last eight or so count.
const SMOOTHING: f64 = 1.0 / 8.0;
/// A hold counts as at most so many times the smoothed one. A single stuck statement must not
/// shed callers that would have been served; a server that became slow is followed nevertheless,
/// as the estimate may double with each hold.
const OUTLIER: f64 = 8.0;
/// Below this the outlier rule does not apply: it would keep a fast gate blind.
const OUTLIER_FLOOR: f64 = 0.001;
/// While nobody waits the estimate loses half of itself in this time, so that what was slow
/// before a quiet spell is not held against whoever comes after it.
const HALF_LIFE: Duration = Duration::from_secs(1);

/// A smoothed hold time that fades while the gate is quiet.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    holds: u32,
    /// Seconds.
    hold: f64,
    /// The last time the estimate was confirmed, by a hold that ended or by fading it.
    as_of: Option<Instant>,
}

impl Forecast {
    /// A permit came back at `now` after it was held for `hold`.
    pub(super) fn observe(&mut self, hold: Duration, now: Instant) {
        let mut hold = hold.as_secs_f64();
        self.as_of = Some(now);
        if self.holds < HOLDS_MIN {
            self.holds += 1;
            // A plain mean until there is enough to smooth.
            self.hold += (hold - self.hold) / f64::from(self.holds);
            return;
        }
        hold = hold.min((self.hold * OUTLIER).max(OUTLIER_FLOOR));
        self.hold += (hold - self.hold) * SMOOTHING;
    }

    /// Fades the estimate by the quiet time that ends at `now`, and predicts from it afresh.
    /// Called when somebody joins an empty queue.
    pub(super) fn fade(&mut self, now: Instant) {
        if let Some(as_of) = self.as_of.replace(now) {
            let quiet = now.saturating_duration_since(as_of);
            self.hold *= (-quiet.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        }
    }

    /// How long a permit is held; `None` while too few came back to tell.
    pub(super) fn hold(&self) -> Option<Duration> {
        (self.holds >= HOLDS_MIN).then(|| seconds(self.hold))
    }

    /// How long a caller waits behind `ahead` others for one of `permits`.
    ///
    /// `None` when it is the next one: it always may wait. Were it shed as well, a wrong
    /// estimate would keep everyone out and never be corrected.
    pub(super) fn wait(&self, ahead: usize, permits: usize) -> Option<Duration> {
        if ahead == 0 || self.holds < HOLDS_MIN {
            return None;
        }
        let turns = small(ahead) + 1.0;
        Some(seconds(self.hold * turns / small(permits.max(1))))
    }
}

/// A queue longer than a `u32` counts would not fit into memory.
fn small(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}
