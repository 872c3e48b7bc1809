//! `cargo xtask down`: ends an instance, and says what it ended.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_provision::proc_table::Identity;
use forebay_provision::{guard, wait_until};
use lexopt::prelude::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dev::{BUILT_IN, CONTAINER, remove_left};
use crate::say;
use crate::state::{Group, Phase, SERVICES, State};
use crate::workspace::{Instance, Workspace};

const USAGE: &str = "usage: cargo xtask down [--instance NAME | --all]";

/// How long the supervisor may take to stop everything.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long its guard may take after it was killed.
const GUARD_TIMEOUT: Duration = Duration::from_secs(10);

const STEP: Duration = Duration::from_millis(20);

/// Ends one instance, or all of this checkout.
///
/// # Errors
///
/// When the arguments are wrong, the state cannot be read, or something does not end.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let (mut name, mut all) = (None, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("instance") => name = Some(parser.value()?.string()?),
            Long("all") => all = true,
            Long("help") | Short('h') => {
                say::line(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    let instances =
        if all { workspace.instances() } else { vec![workspace.instance(name.as_deref())?] };
    for instance in &instances {
        down(instance)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn down(instance: &Instance) -> anyhow::Result<()> {
    let name = &instance.name;
    let Some(state) = State::load(instance)? else {
        say::line(&format!("down: instance {name} was never started"));
        return Ok(());
    };
    let was_running = state.is_running();
    if was_running {
        stop_supervisor(&state)?;
    }
    if let Some(guard) = state.guard {
        wait_until(GUARD_TIMEOUT, STEP, || (!Identity::from(guard).is_alive()).then_some(()));
    }
    // Nothing is left here unless the supervisor and its guard were both killed.
    let entries: Vec<guard::Entry> = state.groups.iter().map(Group::entry).collect();
    guard::end(&entries, Duration::from_secs(3));
    if state.backends.traces.source.as_deref() == Some(CONTAINER) {
        // The engine keeps a container whose client was killed.
        remove_left(instance);
    }
    let left: Vec<&str> = state
        .groups
        .iter()
        .filter(|group| Identity::from(group.leader).is_alive())
        .map(|group| group.name.as_str())
        .collect();
    if !left.is_empty() {
        bail!("still running: {}", left.join(", "));
    }
    put_down(instance)?;
    let names = stopped(&state);
    say::line(&match (was_running, names.is_empty()) {
        (true, false) => format!("down: instance {name}: stopped {}", names.join(", ")),
        (true, true) => format!("down: instance {name}: stopped"),
        (false, _) => format!("down: instance {name} was not running"),
    });
    Ok(())
}

/// What had to be stopped, in the order in which it is.
fn stopped(state: &State) -> Vec<&str> {
    let mut names: Vec<&str> = state.groups.iter().map(|group| group.name.as_str()).collect();
    let rank = |name: &str| SERVICES.iter().position(|service| *service == name);
    names.sort_by_key(|name| (rank(name).is_none(), std::cmp::Reverse(rank(name))));
    if state.backends.traces.source.as_deref() == Some(BUILT_IN) {
        names.push("traces");
    }
    names
}

fn stop_supervisor(state: &State) -> anyhow::Result<()> {
    let supervisor = Identity::from(state.supervisor);
    let pid = Pid::from_raw(i32::try_from(supervisor.pid).context("read its process id")?);
    let gone = || (!supervisor.is_alive()).then_some(());
    signal(pid, Signal::SIGTERM)?;
    if wait_until(TIMEOUT, STEP, gone).is_none() {
        say::line("down: the supervisor does not stop; killing it");
        signal(pid, Signal::SIGKILL)?;
        wait_until(GUARD_TIMEOUT, STEP, gone);
    }
    Ok(())
}

fn signal(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill(pid, signal) {
        // It has just ended by itself.
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        sent => sent.context("signal the supervisor"),
    }
}

/// Corrects what a killed supervisor wrote last.
fn put_down(instance: &Instance) -> anyhow::Result<()> {
    let Some(mut state) = State::load(instance)? else {
        return Ok(());
    };
    if state.is_running() {
        return Ok(());
    }
    state.put_down();
    if state.phase != Phase::Failed {
        state.phase = Phase::Stopped;
    }
    state.save(&instance.state_file())
}
