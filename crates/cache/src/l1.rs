//! The memory of this process: entries under one bound in bytes, and the fence in front of it.

pub(crate) mod absences;
pub(crate) mod fence;
pub(crate) mod hot;
pub(crate) mod key;
pub(crate) mod local;
pub(crate) mod sightings;
pub(crate) mod usage;
