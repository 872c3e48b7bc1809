//! What every connection pool shares: deadlines, the gate, backoff, statistics and metrics.
//!
//! bb8 owns the connections of a connection pool. This crate stands in front
//! of it and gives what bb8 lacks: callers are served in the order in which
//! they came, only so many may wait, each knows why it was refused, and an
//! operator sees who holds what.
//!
//! Guarantees:
//! - [`Gate`] serves waiters first in, first out and never has more than
//!   `waiting_max` of them.
//! - A cancelled wait leaves no trace: neither a permit nor a count.
//! - [`Deadline::scope`] can only bring a deadline nearer, never push it away.

mod backoff;
mod deadline;
mod gate;
mod metrics;
mod priority;
mod stats;

pub use backoff::Backoff;
pub use deadline::Deadline;
pub use gate::{Gate, GateConfig, GateError, GatePermit, GateStats, Holder};
pub use metrics::{PoolMetrics, SECONDS_BOUNDARIES};
pub use priority::Priority;
pub use stats::PoolStats;
