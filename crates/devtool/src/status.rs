//! `cargo xtask status` and `cargo xtask env`: what runs, for people, for programs, for shells.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use lexopt::prelude::*;
use serde_json::{Value as Json, json};

use crate::dev::table;
use crate::state::{Phase, State, redacted};
use crate::workspace::{Instance, Workspace};
use crate::{say, stdout};

#[cfg(test)]
mod tests;

const USAGE: &str = "usage: cargo xtask status [--json] [--instance NAME]
       cargo xtask env [--instance NAME]     as lines for a shell to evaluate
With --json, `traces.query` is the URL of Jaeger, or of the folder of the built-in receiver.";

/// Prints how an instance is. Its state is no failure of this command: the exit code is 0.
///
/// # Errors
///
/// When the arguments are wrong or the state cannot be read.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some((instance, as_json)) = parse(args, workspace)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let state = current(&instance)?;
    if as_json {
        stdout::write(&format!("{:#}\n", document(&state, &instance)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("instance {}: {}\n", instance.name, describe(&state));
    for line in table::table(&state) {
        text.push_str(&line);
        text.push('\n');
    }
    if let Some(failure) = state.failure.as_ref().filter(|_| state.phase != Phase::Stopped) {
        text.push_str(&format!("\n  {failure}\n"));
    }
    if !state.is_running() {
        text.push_str("\n  cargo xtask dev starts it\n");
    }
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the addresses of a running instance as `export` lines.
///
/// # Errors
///
/// When the instance does not run.
pub(crate) fn env(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some((instance, _)) = parse(args, workspace)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let state = current(&instance)?;
    if !state.is_running() {
        bail!("instance {} does not run: cargo xtask dev", instance.name);
    }
    let mut text = String::new();
    for (name, value) in exports(&state) {
        text.push_str(&format!("export {name}={}\n", quoted(&value)));
    }
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<Option<(Instance, bool)>> {
    let (mut instance, mut as_json) = (None, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("json") => as_json = true,
            Long("instance") => instance = Some(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    Ok(Some((workspace.instance(instance.as_deref())?, as_json)))
}

/// What is known of an instance; what a dead supervisor wrote last is corrected.
pub(crate) fn current(instance: &Instance) -> anyhow::Result<State> {
    let nobody = forebay_provision::proc_table::Identity { pid: 0, started: 0 };
    let mut state = match State::load(instance)? {
        Some(state) => state,
        None => {
            let mut state = State::new(instance, nobody);
            state.phase = Phase::Stopped;
            state
        }
    };
    if !state.is_running() {
        state.put_down();
    }
    Ok(state)
}

fn describe(state: &State) -> &'static str {
    match (state.phase, state.is_running()) {
        (Phase::Failed, false) => "failed",
        (_, false) => "stopped",
        (Phase::Starting, true) => "starting",
        (Phase::Ready, true) => "running",
        (Phase::Failed | Phase::Stopping | Phase::Stopped, true) => "stopping",
    }
}

/// The document that programs read. Its shape is a contract.
fn document(state: &State, instance: &Instance) -> Json {
    let services: Vec<Json> = state
        .services
        .iter()
        .map(|service| {
            json!({
                "name": service.name,
                "state": service.state.name(),
                "grpc": service.grpc,
                "ops": service.ops,
                "pid": service.pid,
            })
        })
        .collect();
    let backends = &state.backends;
    let store = |backend: &crate::state::Backend| json!({ "url": backend.url.as_deref().map(redacted), "source": backend.source });
    // Without Jaeger the traces are looked at where the receiver keeps them.
    let folder = || format!("file://{}", instance.traces_dir().display());
    let traces = &backends.traces;
    let query = traces.query.clone().or_else(|| traces.otlp.is_some().then(folder));
    json!({
        "instance": state.instance,
        "services": services,
        "backends": {
            "postgres": store(&backends.postgres),
            "redis": store(&backends.redis),
            "traces": { "otlp": traces.otlp, "query": query, "source": traces.source },
        },
    })
}

fn exports(state: &State) -> Vec<(String, String)> {
    let backends = &state.backends;
    let grpc = |name: &str| state.service(name).and_then(|service| service.grpc.clone());
    let otlp = backends.traces.otlp.as_ref().map(|address| format!("http://{address}"));
    let token = grpc("token-server").map(|address| format!("http://{address}"));
    let pairs = [
        ("DATABASE_URL", backends.postgres.url.clone()),
        ("REDIS_URL", backends.redis.url.clone()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", otlp),
        ("FOREBAY__TOKEN_CLIENT__ENDPOINT", token),
        ("FOREBAY_TOKEN_GRPC", grpc("token-server")),
        ("FOREBAY_POOL_GRPC", grpc("pool-server")),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// A word that a shell takes as it is.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
