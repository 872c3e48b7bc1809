//! Us and the peers, interleaved in one run.
//!
//! A machine's speed drifts, so two figures taken apart in time say little about each
//! other. Every bench here runs the two sides in turn, round by round, and reports the
//! median of the ratios of neighbouring rounds. A ratio counts, an absolute time does not.

pub mod load;
pub mod report;
pub mod server;
