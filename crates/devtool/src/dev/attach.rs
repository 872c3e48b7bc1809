//! A second `dev`: it shows the instance that runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;

use super::{stale, table};
use crate::logs::{self, Filter};
use crate::say;
use crate::state::{Phase, State};
use crate::workspace::Instance;

/// How long an instance that somebody else starts may take, its build included.
const READY_TIMEOUT: Duration = Duration::from_secs(1800);

/// The state of the instance, when a supervisor holds its lock.
///
/// # Errors
///
/// When the lock or the state cannot be read.
pub(crate) fn running(instance: &Instance) -> anyhow::Result<Option<State>> {
    if stale::lock(instance)?.is_some() {
        return Ok(None);
    }
    // A supervisor that has just taken the lock may not have written yet.
    let written =
        forebay_provision::wait_until(Duration::from_secs(10), Duration::from_millis(20), || {
            State::load(instance).ok().flatten().filter(State::is_running)
        });
    match written {
        Some(state) => Ok(Some(state)),
        None if stale::lock(instance)?.is_some() => Ok(None),
        None => bail!("a supervisor holds {} but says nothing", instance.lock_file().display()),
    }
}

/// Waits until the running instance is ready, prints its table and, unless `detach`, its logs.
///
/// # Errors
///
/// When it does not get ready.
pub(crate) fn show(
    instance: &Instance,
    mut state: State,
    detach: bool,
) -> anyhow::Result<ExitCode> {
    if state.phase == Phase::Starting {
        say::line("dev: it is being started already; waiting for it");
    }
    let ended = forebay_provision::wait_until(READY_TIMEOUT, Duration::from_millis(100), || {
        if let Ok(Some(now)) = State::load(instance) {
            state = now;
        }
        (state.phase != Phase::Starting || !state.is_running()).then_some(())
    });
    if ended.is_none() || state.phase != Phase::Ready || !state.is_running() {
        let why = state.failure.as_deref().unwrap_or("it was stopped");
        bail!("instance {} did not get ready: {why}", instance.name);
    }
    for line in table::lines(&state, &[]) {
        say::line(&line);
    }
    say::line("dev: it runs already");
    if detach {
        return Ok(ExitCode::SUCCESS);
    }
    say::line("dev: its logs follow; Ctrl-C leaves it running, `cargo xtask down` ends it");
    logs::follow(instance, &Filter::default())?;
    Ok(ExitCode::SUCCESS)
}
