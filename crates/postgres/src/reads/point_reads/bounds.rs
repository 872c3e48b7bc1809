//! How much may be under way, and how much is.

/// Limits of one [`PointReads`](super::PointReads). Zero counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PointReadsBounds {
    /// Keys in one batch. More make the statement longer without making a key cheaper.
    pub keys_max: usize,
    /// Batches under way at once, each on a connection of its own. One would leave Postgres idle
    /// while its rows are handed out; more than a few take the connections from everybody else.
    pub batches_in_flight_max: usize,
    /// Callers that wait for their batch to depart; one more is shed.
    pub waiting_max: usize,
}

impl Default for PointReadsBounds {
    /// 256 keys, 2 batches, 4,096 callers. Source: measured, with 64 and 512 callers on two processors.
    fn default() -> Self {
        Self { keys_max: 256, batches_in_flight_max: 2, waiting_max: 4096 }
    }
}

impl PointReadsBounds {
    pub(super) fn at_least_one(self) -> Self {
        Self {
            keys_max: self.keys_max.max(1),
            batches_in_flight_max: self.batches_in_flight_max.max(1),
            waiting_max: self.waiting_max.max(1),
        }
    }
}

/// State of one [`PointReads`](super::PointReads) at one moment, with its counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PointReadsStats {
    /// Callers whose batch has not departed.
    pub waiting: usize,
    /// Batches under way.
    pub batches_in_flight: usize,
    /// Batches that departed.
    pub batches: u64,
    /// Keys that they looked up.
    pub keys: u64,
    /// Callers that found their key in the batch already.
    pub shared: u64,
    /// Callers turned away because too many waited.
    pub shed: u64,
}
