//! `cargo xtask pools`: the connection pools of every running service, live.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_proto::ops::v1::GetConnectionPoolsRequest;
use lexopt::prelude::*;

use crate::workspace::{Instance, Workspace};
use crate::{fleet, say, stdout};

mod table;

#[cfg(test)]
mod tests;

const USAGE: &str =
    "usage: cargo xtask pools [--json] [--watch] [--interval SECONDS] [--instance NAME]
One table for each store, one row for each connection pool of each service. --json prints one
object a line for each service; --watch does so again every second until it is interrupted.";

/// What a service answers with.
const CONTRACT: &str = "forebay.ops.v1.GetConnectionPoolsResponse";

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
        let round = async || round(&instance, request.as_json).await;
        runtime.block_on(fleet::watch(request.interval, request.as_json, round))?;
    } else {
        let text = runtime.block_on(round(&instance, request.as_json))?;
        stdout::write(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Request>> {
    let mut request =
        Request { as_json: false, watch: false, interval: fleet::INTERVAL, instance: None };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("json") => request.as_json = true,
            Long("watch") | Short('w') => request.watch = true,
            Long("interval") => {
                request.interval = fleet::interval(parser.value()?.parse().context(USAGE)?)?;
                request.watch = true;
            }
            Long("instance") => request.instance = Some(parser.value()?.string()?),
            Long("help") | Short('h') => return Ok(None),
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    Ok(Some(request))
}

/// Asks every service once. One that does not answer is said to be so beside the others.
async fn round(instance: &Instance, as_json: bool) -> anyhow::Result<String> {
    let answers = fleet::ask(instance, async |mut client| {
        Ok(client.get_connection_pools(fleet::request(GetConnectionPoolsRequest {})?).await)
    });
    let answers = fleet::some_reply(instance, answers.await?)?;
    if as_json {
        fleet::json_lines(&answers, CONTRACT)
    } else {
        Ok(table::text(&instance.name, &answers))
    }
}
