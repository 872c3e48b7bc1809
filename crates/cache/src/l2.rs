//! Redis, and when what it holds may be trusted.

pub(crate) mod breaker;
pub(crate) mod dataset;
pub(crate) mod keeper;
pub(crate) mod protocol;
pub(crate) mod remote;
pub(crate) mod scripts;
pub(crate) mod space;
pub(crate) mod wire;
