//! What operators see and do.

pub(crate) mod clear;
pub(crate) mod inspect;
pub(crate) mod stats;
pub(crate) mod tally;
pub(crate) mod verifier;
