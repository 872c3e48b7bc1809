//! What every connection pool shares, whatever server is behind it.
//!
//! bb8 owns the connections of a connection pool. This crate stands in front
//! of it and gives what bb8 lacks: callers are served in the order in which
//! they came, only so many may wait, each knows why it was refused, and an
//! operator sees who holds what.
//!
//! - [`Gate`]: who may use a connection now; [`Priority`] and [`Deadline`] say how urgent it is.
//! - [`Breaker`]: how a server that fails is asked, and how its callers learn of it.
//! - [`Sizer`]: how many connections a server gets that refuses some of them.
//! - [`RetryBudget`]: how many requests may be sent again.
//! - [`PoolStats`] and [`PoolMetrics`]: what an operator sees of it.
//!
//! Guarantees:
//! - [`Gate`] serves the waiters of a priority first in, first out, lets none of them starve, and
//!   never has more than `waiting_max` of them.
//! - A cancelled wait leaves no trace: neither a permit nor a count.
//! - [`Deadline::scope`] can only bring a deadline nearer, never push it away.
//! - [`Breaker`] hands every failure to everyone who waits, and with its default pauses finds a
//!   server that is back within a second, if somebody asks for it.

mod backoff;
mod breaker;
mod close_reason;
mod deadline;
mod gate;
mod metrics;
mod priority;
#[cfg(test)]
mod recorder;
mod retry_budget;
mod sizer;
mod slow_wait;
mod stats;

pub use backoff::Backoff;
pub use breaker::{Breaker, BreakerConfig, BreakerState, BreakerStats, Failures};
pub use close_reason::{CloseCounter, CloseCounts, CloseReason};
pub use deadline::Deadline;
pub use gate::{Entered, Gate, GateConfig, GateError, GatePermit, GateStats, Holder, Wait};
pub use metrics::{PoolMetrics, SECONDS_BOUNDARIES};
pub use priority::Priority;
pub use retry_budget::RetryBudget;
pub use sizer::Sizer;
pub use slow_wait::trace_slow_wait;
pub use stats::PoolStats;
