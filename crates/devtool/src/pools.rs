//! `cargo xtask pools`: the connection pools of every running service, live.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lexopt::prelude::*;
use tokio::time::MissedTickBehavior;

use self::ask::Answer;
use crate::state::State;
use crate::workspace::{Instance, Workspace};
use crate::{say, stdout};

mod ask;
mod document;
mod table;

#[cfg(test)]
mod tests;

const USAGE: &str =
    "usage: cargo xtask pools [--json] [--watch] [--interval SECONDS] [--instance NAME]
One table for each store, one row for each connection pool of each service. --json prints one
object a line for each service; --watch does so again every second until it is interrupted.";

/// How often `--watch` asks. Each service answers one call a round.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rounds of `--watch` are never nearer to each other nor farther apart.
const INTERVAL_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;

/// Puts the cursor into the upper left corner and clears what is below it (ECMA-48, CUP and ED).
const CLEAR: &str = "\x1b[H\x1b[J";

/// What was asked for.
#[derive(Debug)]
struct Request {
    as_json: bool,
    watch: bool,
    interval: Duration,
    instance: Option<String>,
}

/// Prints how the connection pools of an instance are, once or again and again.
///
/// # Errors
///
/// When the arguments are wrong, the instance does not run, or none of its services answers.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(request) = parse(args)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let instance = workspace.instance(request.instance.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    if request.watch {
        runtime.block_on(watch(&instance, &request))?;
    } else {
        let text = runtime.block_on(round(&instance, request.as_json))?;
        stdout::write(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Request>> {
    let mut request = Request { as_json: false, watch: false, interval: INTERVAL, instance: None };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("json") => request.as_json = true,
            Long("watch") | Short('w') => request.watch = true,
            Long("interval") => {
                let seconds = parser.value()?.parse().context(USAGE)?;
                let (least, most) = INTERVAL_SECONDS.into_inner();
                ensure!(
                    INTERVAL_SECONDS.contains(&seconds),
                    "--interval takes {least} to {most} seconds"
                );
                request.interval = Duration::from_secs(seconds);
                request.watch = true;
            }
            Long("instance") => request.instance = Some(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    Ok(Some(request))
}

/// Until the instance ends or nobody reads any more. A round that takes long makes the next one
/// late and never two at once.
async fn watch(instance: &Instance, request: &Request) -> anyhow::Result<()> {
    let redraws = !request.as_json && std::io::stdout().is_terminal();
    let mut rounds = tokio::time::interval(request.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let mut text = round(instance, request.as_json).await?;
        if redraws {
            text.insert_str(0, CLEAR);
        } else if !request.as_json {
            text.push('\n');
        }
        if !stdout::still_read(&text) {
            return Ok(());
        }
    }
}

/// Asks every service once. One that does not answer is said to be so beside the others.
async fn round(instance: &Instance, as_json: bool) -> anyhow::Result<String> {
    let answers = answers(instance).await?;
    if as_json { document::lines(&answers) } else { Ok(table::text(&instance.name, &answers)) }
}

async fn answers(instance: &Instance) -> anyhow::Result<Vec<Answer>> {
    let state = State::load(instance)?.filter(State::is_running).with_context(|| {
        format!("instance {} does not run: `cargo xtask dev` starts it", instance.name)
    })?;
    let asked = state.services.iter().filter_map(|service| {
        service.grpc.as_deref().map(|address| ask::service(&service.name, address))
    });
    let answers = futures_util::future::join_all(asked).await;
    let Some(first) = answers.first() else {
        bail!(
            "no service of instance {} listens yet: `cargo xtask status` tells more",
            instance.name
        );
    };
    if answers.iter().all(|answer| answer.pools.is_err())
        && let Err(problem) = &first.pools
    {
        bail!(
            "no service of instance {} answers: `cargo xtask status` and `cargo xtask logs` tell \
             more; {} said: {problem}",
            instance.name,
            first.service
        );
    }
    Ok(answers)
}
