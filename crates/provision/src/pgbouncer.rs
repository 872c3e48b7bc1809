//! pgbouncer: found and run on a loopback port, before a Postgres.

mod find;
mod server;

pub use find::{PgBouncerTools, find};
pub use server::{Options, Server};
