//! The life of a process: settings, telemetry, signals, readiness, exit code.
//!
//! A binary is one call of [`run()`] (or [`run_job()`]) with the function that serves:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use forebay_boot::Process;
//! use forebay_config::Config;
//!
//! fn main() -> ExitCode {
//!     forebay_boot::run("token-server", serve)
//! }
//!
//! async fn serve(_config: Config, process: Process) -> anyhow::Result<()> {
//!     let store = process.readiness.component("store");
//!     store.set_ready();
//!     process.shutdown.fired().await;
//!     Ok(())
//! }
//! ```
//!
//! What [`run()`] promises:
//!
//! - Unusable settings end the process with exit code 64 and every problem on stderr.
//! - SIGTERM and SIGINT fire [`Shutdown`]; a second one ends the process at once, with
//!   143 or 130. From the first one to the exit takes `process.shutdown_timeout` at most.
//! - An error of the service is logged once, as one line with its whole chain of causes,
//!   and ends the process with exit code 1. A panic of it ends with 101.
//! - `/livez`, `/readyz`, `/startupz` and `/metrics` answer on `ops.listen` from before
//!   the service starts until after it has drained. [`Readiness`] says what they mean.
//! - Spans are flushed last, after every task has ended and closed its spans.

mod exit;
mod ops;
mod probe;
mod process;
mod readiness;
mod run;
mod shutdown;
mod signals;

pub use process::Process;
pub use readiness::{Component, ComponentReport, ComponentState, ProcessState, Readiness};
pub use run::{run, run_job};
pub use shutdown::Shutdown;
