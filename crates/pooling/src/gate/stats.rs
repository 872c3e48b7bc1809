//! What an operator sees of a gate.

use std::time::Duration;

use crate::Priority;

/// State of a [`crate::Gate`] at one moment, with its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Permits held. More than `permits` for a while after the gate was made smaller.
    pub held: usize,
    /// Permits there are now.
    pub permits: usize,
    /// How many of them only Admin may take.
    pub reserved: usize,
    /// Callers waiting, of all priorities.
    pub waiting: usize,
    /// Callers waiting, in the order of [`Priority::ALL`]; see [`GateStats::waiting_of`].
    pub waiting_by_priority: [usize; 3],
    /// Callers that may wait.
    pub waiting_max: usize,
    /// How long the longest waiter has been waiting; zero if nobody waits.
    pub oldest_wait: Duration,
    /// How long a permit is held, smoothed; zero until enough were given back to tell.
    pub hold_estimate: Duration,
    /// Waits that ran out of time.
    pub timeouts: u64,
    /// Callers turned away because the queue was full.
    pub shed: u64,
    /// Callers turned away because their turn would have come after their deadline.
    pub shed_predicted: u64,
    /// Waits whose caller went away.
    pub cancelled: u64,
    /// Permits that were held for longer than `leak_after`.
    pub leaked: u64,
}

impl GateStats {
    /// Callers of one priority that wait.
    pub fn waiting_of(&self, priority: Priority) -> usize {
        self.waiting_by_priority[priority.index()]
    }
}
