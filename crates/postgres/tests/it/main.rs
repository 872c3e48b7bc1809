//! The promises of `PgPool`, on a real Postgres.
//!
//! Each test of a guarantee says what has to be removed to make it fail.

mod budget;
mod cancel;
mod closures;
mod connect;
mod corpus;
mod drain;
mod errors;
mod fairness;
mod fake_server;
mod kills;
mod leaks;
mod limbo;
mod line;
mod lost;
mod outage;
mod overload;
mod pgbouncer;
mod pipeline;
mod point_reads;
mod poolers;
mod queue;
mod recover;
mod replicas;
mod slots;
mod spans;
mod statements;
mod storm;
mod support;
mod visitor;
