//! The promises of `PgPool`, on a real Postgres.
//!
//! Each test of a guarantee says what has to be removed to make it fail.

mod cancel;
mod connect;
mod drain;
mod errors;
mod fake_server;
mod lost;
mod point_reads;
mod queue;
mod recover;
mod spans;
mod statements;
mod support;
