//! Reads and changes that meet at chosen places: what was read before a change never outlives it.

pub(crate) mod gate;
mod matrix;
mod own;
mod pause;
mod process;
pub(crate) mod resp;
pub(crate) mod tap;
