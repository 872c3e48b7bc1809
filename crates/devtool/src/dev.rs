//! `cargo xtask dev`: the whole system with one command.
//!
//! One process, the supervisor, starts everything and ends everything. With `--detach` it runs in a
//! session of its own and this command only watches it come up; a second `dev` finds the running
//! instance by its lock and shows it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use lexopt::prelude::*;

use crate::workspace::{Instance, Workspace};
use crate::{doctor, say};

mod attach;
mod backends;
mod board;
mod build;
mod container;
mod crashes;
mod detach;
mod keeper;
mod logfile;
mod plan;
mod probe;
mod schema;
mod services;
mod stale;
mod supervisor;
pub(crate) mod table;
mod traces;
mod units;

pub(crate) use container::{CONTAINER, Engine, remove_left};
pub(crate) use logfile::older as older_log;
pub(crate) use plan::preferred as preferred_ports;
pub(crate) use traces::{BUILT_IN, installed as installed_jaeger};

const USAGE: &str = "usage: cargo xtask dev [OPTIONS]
Brings up Postgres, Redis, a trace receiver, token-server and pool-server, migrated and seeded.
A second `dev` shows the instance that is running.

  --detach         return when everything is ready, and leave it running
  --fresh          start with an empty database, cache and trace store
  --instance NAME  run beside other instances of this checkout
  --release        run release builds
  --timings        tell where the time went

Traces go to a Jaeger that runs, is installed (JAEGER_BIN or PATH) or starts in a container of docker
or podman (FOREBAY_JAEGER_IMAGE names another image, or none), else to the built-in receiver.";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    detach: bool,
    /// We are the supervisor of a detached instance.
    supervise: bool,
    fresh: bool,
    instance: Option<String>,
    release: bool,
    timings: bool,
}

/// Starts an instance, or shows the one that runs.
///
/// # Errors
///
/// When the arguments are wrong or the instance does not come up.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(options) = parse(args)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let instance = workspace.instance(options.instance.as_deref())?;
    doctor::essentials(workspace)?;
    instance.create()?;
    if options.supervise {
        // A new session: the terminal may close, and its Ctrl-C is not for us.
        nix::unistd::setsid().context("leave the terminal's session")?;
        return supervise(workspace, &instance, &options);
    }
    if let Some(running) = attach::running(&instance)? {
        if options.fresh {
            bail!(
                "instance {} is running: `cargo xtask down` first, then start it afresh",
                instance.name
            );
        }
        return attach::show(&instance, running, options.detach);
    }
    if options.detach {
        let code = detach::start(workspace, &instance, &options)?;
        // Another `dev` may have started at the same time and got the lock; its instance will do.
        return match attach::running(&instance)? {
            Some(other) if code == ExitCode::FAILURE => attach::show(&instance, other, true),
            _ => Ok(code),
        };
    }
    supervise(workspace, &instance, &options)
}

fn supervise(
    workspace: &Workspace,
    instance: &Instance,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let code = runtime.block_on(supervisor::run(workspace, instance, options));
    // What is still being fetched or built is ended by the guard.
    runtime.shutdown_background();
    forebay_provision::guard::close();
    code
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Options>> {
    let mut options = Options::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("detach") | Short('d') => options.detach = true,
            Long("supervise") => options.supervise = true,
            Long("fresh") => options.fresh = true,
            Long("instance") => options.instance = Some(parser.value()?.string()?),
            Long("release") => options.release = true,
            Long("timings") => options.timings = true,
            Long("help") | Short('h') => return Ok(None),
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    Ok(Some(options))
}
