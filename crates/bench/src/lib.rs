//! Us and the peers, interleaved in one run.
//!
//! A machine's speed drifts, so two figures taken apart in time say little about each
//! other. Every bench here runs all sides in turn, round by round, and reports the
//! median of the ratios of neighbouring rounds. A ratio counts, an absolute time does not.

pub mod cache;
pub mod load;
pub mod node;
pub mod pools;
pub mod report;
pub mod rounds;
pub mod server;
pub mod side;
pub mod versions;
