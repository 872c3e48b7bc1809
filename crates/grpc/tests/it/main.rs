//! The gRPC kit against real clients over real sockets.

mod client;
mod deadline;
mod drain;
mod errors;
mod harness;
mod health;
mod limits;
mod observe;
mod raw;
mod resets;
