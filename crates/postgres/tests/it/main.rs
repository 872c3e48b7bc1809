//! The promises of `PgPool`, on a real Postgres.
//!
//! Each test of a guarantee says what has to be removed to make it fail.

mod budget;
mod cancel;
mod connect;
mod drain;
mod errors;
mod fake_server;
mod lost;
mod pgbouncer;
mod pipeline;
mod point_reads;
mod poolers;
mod queue;
mod recover;
mod spans;
mod statements;
mod support;
