//! Size of a gate.

use std::time::Duration;

/// Size of a [`crate::Gate`].
///
/// The last fields have defaults, so write
/// `GateConfig { leak_after, ..GateConfig::new(permits, waiting_max, timeout) }`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateConfig {
    /// Permits that may be held at once; [`crate::Gate::resize`] changes it later.
    pub permits: usize,
    /// Callers that may wait for one, Interactive and Batch together; one more is shed. Batch may
    /// take half of the places (rounded up), so that a large import sheds no interactive caller.
    /// Admin callers have a queue of [`GateConfig::ADMIN_WAITING_MAX`] beside it.
    pub waiting_max: usize,
    /// How long a caller may wait, if its own deadline is not nearer.
    pub timeout: Duration,
    /// Permits that only [`crate::Priority::Admin`] may take. `None`: one where there are at
    /// least four, else none. The others always keep one permit.
    pub reserved: Option<usize>,
    /// A permit held for longer is reported by [`crate::Gate::report_leaks`].
    pub leak_after: Duration,
}

impl GateConfig {
    /// Admin callers that may wait, whatever else waits. A handful of monitors and health checks
    /// run in a process; more of them waiting means that they pile up.
    pub const ADMIN_WAITING_MAX: usize = 16;
    /// Default of [`GateConfig::leak_after`]: twice the longest default statement timeout, 30 s.
    pub const LEAK_AFTER: Duration = Duration::from_secs(60);
    /// From this many permits on, one is reserved by default.
    const RESERVE_FROM: usize = 4;

    /// A gate of this size, the rest by default.
    pub const fn new(permits: usize, waiting_max: usize, timeout: Duration) -> Self {
        Self { permits, waiting_max, timeout, reserved: None, leak_after: Self::LEAK_AFTER }
    }

    /// Callers of Batch that may wait.
    pub(super) fn batch_waiting_max(&self) -> usize {
        self.waiting_max.div_ceil(2)
    }

    /// Permits kept for Admin when there are `permits` of them.
    pub(super) fn reserved_of(&self, permits: usize) -> usize {
        let default = usize::from(permits >= Self::RESERVE_FROM);
        self.reserved.unwrap_or(default).min(permits.saturating_sub(1))
    }
}
