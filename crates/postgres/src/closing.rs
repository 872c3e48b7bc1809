//! Why connections are closed, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It reached its lifetime.
    Lifetime,
    /// Nobody used it for long, and there are more than have to be kept.
    Idle,
    /// The server or the network closed it, or it did not answer a check.
    Lost,
    /// Its caller went away in the middle of something, and it could not be cleaned.
    Unclean,
    /// The connection pool shuts down.
    Drain,
}

impl Reason {
    const COUNT: usize = 5;

    const fn index(self) -> usize {
        match self {
            Self::Lifetime => 0,
            Self::Idle => 1,
            Self::Lost => 2,
            Self::Unclean => 3,
            Self::Drain => 4,
        }
    }
}

/// Connections closed so far.
#[derive(Debug, Default)]
pub(crate) struct Closed([AtomicU64; Reason::COUNT]);

impl Closed {
    /// One more.
    pub(crate) fn count(&self, reason: Reason) {
        self.0[reason.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// How many for this reason.
    pub(crate) fn of(&self, reason: Reason) -> u64 {
        self.0[reason.index()].load(Ordering::Relaxed)
    }
}
