//! Redis, or Valkey: found and run on a loopback port.

mod find;
mod server;
mod wire;

pub use find::{RedisTools, find};
pub use server::{Options, Server};
pub use wire::{command, info_field};
