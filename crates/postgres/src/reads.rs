//! Reads that need no connection of their own: sent together, looked up by key, from replicas.

pub(crate) mod departed;
pub(crate) mod pipeline;
pub(crate) mod point_reads;
pub(crate) mod router;
