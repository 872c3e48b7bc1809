//! What an operator sees of a breaker.

/// Whether attempts to connect go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BreakerState {
    /// All of them.
    #[default]
    Closed,
    /// A few at a time: the server was away a moment ago.
    HalfOpen,
    /// None before the pause is over.
    Open,
}

impl BreakerState {
    /// The name in statistics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }

    /// The value of the gauge: 0 closed, 1 half-open, 2 open.
    pub const fn level(self) -> u32 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// State of a [`crate::Breaker`] at one moment, with its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerStats {
    /// Whether attempts go out.
    pub state: BreakerState,
    /// Times it opened after it was closed.
    pub opened: u64,
    /// Attempts that failed.
    pub attempts_failed: u64,
    /// Attempts that were not made because it was too early.
    pub attempts_refused: u64,
}
