//! The way of one read: L1, L2, the store, and back.

pub(crate) mod behind;
pub(crate) mod collector;
pub(crate) mod fetch;
pub(crate) mod flight;
pub(crate) mod loads;
pub(crate) mod lookup;
pub(crate) mod misses;
pub(crate) mod plan;
pub(crate) mod refresh;
pub(crate) mod terms;
mod turn;
pub(crate) mod warm_up;
