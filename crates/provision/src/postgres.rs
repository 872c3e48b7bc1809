//! Postgres: found, initialised and run on a loopback port.

mod cluster;
mod find;
mod server;
mod standby;
mod wire;

pub use find::{PostgresTools, find};
pub use server::{Options, Server, clear_stale_lock, data_dir};
pub use wire::{Rows, WireError, query};
