//! What is left to chance: by how much an entry lives shorter, and which read refreshes it.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

/// Numbers from zero to below one. The product draws them at random.
#[derive(Clone)]
pub(crate) struct Chance(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Chance {
    /// What `draw` says, so that a test knows what will be drawn.
    #[cfg(test)]
    pub(crate) fn new(draw: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(draw))
    }

    pub(crate) fn draw(&self) -> f64 {
        (self.0)()
    }

    /// A time to live, less up to this share of it: entries that are filled together do not expire
    /// together, and none lives longer than it is allowed to.
    pub(crate) fn shorten(&self, ttl: Duration, jitter: f64) -> Duration {
        ttl.mul_f64(1.0 - jitter * self.draw())
    }
}

impl Default for Chance {
    fn default() -> Self {
        Self(Arc::new(rand::random::<f64>))
    }
}

impl Debug for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chance")
    }
}
