//! The memory of this process: entries under one bound in bytes, and the fence in front of it.

pub(crate) mod fence;
pub(crate) mod local;
pub(crate) mod usage;
