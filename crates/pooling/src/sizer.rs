//! How many connections a server that refuses some of them should get.

use std::time::Duration;

use tokio::time::Instant;

/// Share of the permits that is kept after a refusal, in tenths.
const KEPT_TENTHS: usize = 7;
/// Refusals within this time come from attempts that went out together and count once.
const TOGETHER: Duration = Duration::from_secs(1);
/// How much longer than before a permit may be held, in percent, and still count as not longer.
const GROWTH_PERCENT_MAX: u32 = 25;
/// Weight of the newest hold time in the one to compare with: after about eight steps of growing
/// more slowly than that, work that takes longer by nature is the new normal.
const DRIFT: u32 = 8;

/// Additive increase, multiplicative decrease of the permits in front of a server that others
/// use as well.
///
/// A refusal takes three tenths of the permits away, and more if fewer connections are really
/// open: what is refused elsewhere cannot be had by asking again. While somebody waits, one
/// permit comes back per step, as long as permits are not held longer than before: then the
/// server is what is slow, and more connections would make it slower.
///
/// Pure arithmetic: the owner tells what it sees and applies what it gets to its
/// [`crate::Gate::resize`].
#[derive(Debug, Clone)]
pub struct Sizer {
    permits: usize,
    permits_max: usize,
    regrow_every: Duration,
    /// When a permit may come back.
    grow_at: Instant,
    refused_at: Option<Instant>,
    /// The hold time to compare with.
    usual_hold: Option<Duration>,
}

impl Sizer {
    /// Default time between two steps of growth. A step too far costs three tenths of all permits,
    /// so steps are rare.
    pub const REGROW_EVERY: Duration = Duration::from_secs(10);

    /// All of `permits_max`, to grow by one per `regrow_every` once it was made smaller.
    pub fn new(permits_max: usize, regrow_every: Duration) -> Self {
        Self {
            permits: permits_max,
            permits_max,
            regrow_every,
            grow_at: Instant::now(),
            refused_at: None,
            usual_hold: None,
        }
    }

    /// Permits there should be.
    pub fn permits(&self) -> usize {
        self.permits
    }

    /// The server refused a connection at `now` while `open` were open. Returns the permits
    /// there should be: at least one.
    pub fn refused(&mut self, open: usize, now: Instant) -> usize {
        let is_first = self
            .refused_at
            .is_none_or(|refused_at| now.saturating_duration_since(refused_at) >= TOGETHER);
        if is_first {
            self.permits = self.permits * KEPT_TENTHS / 10;
            self.refused_at = Some(now);
        }
        self.permits = self.permits.min(open).max(1);
        self.grow_at = now + self.regrow_every;
        self.permits
    }

    /// Time passed: `waiting` callers wait at `now`, and a permit is held for `hold`, if that is
    /// known. Returns the permits there should be.
    pub fn tick(&mut self, now: Instant, waiting: usize, hold: Option<Duration>) -> usize {
        if now < self.grow_at {
            return self.permits;
        }
        let may_grow = waiting > 0 && self.permits < self.permits_max;
        let is_slower = match (self.usual_hold, hold) {
            (Some(usual), Some(hold)) => hold > usual + usual * GROWTH_PERCENT_MAX / 100,
            (None, _) | (_, None) => false,
        };
        if may_grow && !is_slower {
            self.permits += 1;
        }
        if let Some(hold) = hold {
            self.usual_hold = Some(self.usual_hold.map_or(hold, |usual| {
                // Slower is believed slowly, faster at once.
                (usual * (DRIFT - 1) / DRIFT + hold / DRIFT).min(hold)
            }));
        }
        self.grow_at = now + self.regrow_every;
        self.permits
    }
}

#[cfg(test)]
mod tests;
