//! Why connections were closed, and how many.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The server or the network closed it.
    Broken,
    /// It could not be cleaned after its caller went away.
    Poisoned,
    /// It did not answer a health check.
    Invalid,
    /// It reached its longest lifetime.
    Lifetime,
    /// Nobody used it for long.
    Idle,
    /// The server has become read-only, or is no longer the one that is wanted.
    Role,
    /// There are fewer permits than connections now.
    Shrunk,
    /// The connection pool closes.
    Draining,
}

impl CloseReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Broken,
        Self::Poisoned,
        Self::Invalid,
        Self::Lifetime,
        Self::Idle,
        Self::Role,
        Self::Shrunk,
        Self::Draining,
    ];

    /// The name in statistics and metrics; it never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Poisoned => "poisoned",
            Self::Invalid => "invalid",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::Role => "role",
            Self::Shrunk => "shrunk",
            Self::Draining => "draining",
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Broken => 0,
            Self::Poisoned => 1,
            Self::Invalid => 2,
            Self::Lifetime => 3,
            Self::Idle => 4,
            Self::Role => 5,
            Self::Shrunk => 6,
            Self::Draining => 7,
        }
    }
}

/// Counts the connections that were closed.
#[derive(Debug, Default)]
pub struct CloseCounter([AtomicU64; 8]);

impl CloseCounter {
    /// One more was closed.
    pub fn add(&self, reason: CloseReason) {
        self.0[reason.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> CloseCounts {
        CloseCounts(CloseReason::ALL.map(|reason| self.0[reason.index()].load(Ordering::Relaxed)))
    }
}

/// Connections that were closed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseCounts([u64; 8]);

impl CloseCounts {
    /// How many were closed for one reason.
    pub fn of(&self, reason: CloseReason) -> u64 {
        self.0[reason.index()]
    }

    /// Every reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (CloseReason, u64)> {
        CloseReason::ALL.into_iter().zip(self.0)
    }

    /// How many were closed.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    //! Each reason has a place of its own.

    use super::{CloseCounter, CloseReason};

    #[test]
    fn each_reason_counts_for_itself() {
        let counter = CloseCounter::default();
        for (times, reason) in CloseReason::ALL.into_iter().enumerate() {
            (0..=times).for_each(|_| counter.add(reason));
        }
        let counts = counter.counts();
        for (times, (reason, count)) in (1..).zip(counts.iter()) {
            assert_eq!((count, counts.of(reason)), (times, times), "{}", reason.as_str());
        }
        assert_eq!(counts.total(), 36);
    }
}
