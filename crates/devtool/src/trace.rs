//! `cargo xtask trace`: the traces a development instance has kept.
//!
//! `ls` lists the newest, `show` draws one. Both read the receiver's files, so they work while an
//! instance runs and after it has ended.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lexopt::prelude::*;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use self::list::Filter;
use self::model::Trace;
use crate::workspace::Workspace;
use crate::{say, stdout};

pub(crate) mod clock;
mod list;
mod model;
pub(crate) mod receiver;
mod segment;
mod store;
mod waterfall;

#[cfg(test)]
mod tests;

const USAGE: &str =
    "usage: cargo xtask trace ls [--limit N] [--service NAME] [--errors] [--min-ms N] [--all] [--json]
       cargo xtask trace show ID [--json]
both take [--instance NAME]; --all lists health checks and reflection as well";

/// How often a waiting reader looks for spans that have arrived.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// What was asked for.
#[derive(Debug)]
struct Request {
    id: Option<String>,
    filter: Filter,
    json: bool,
    instance: Option<String>,
}

/// Runs `trace ls` or `trace show`.
///
/// # Errors
///
/// When the arguments are wrong or the stored traces cannot be read.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(request) = parse(args)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let dir = workspace.instance(request.instance.as_deref())?.traces_dir();
    let traces = load(&dir)?;
    let Some(id) = &request.id else {
        return list(&traces, &request, &dir);
    };
    match find(&traces, id) {
        Ok(trace) if request.json => stdout::write(&format!("{:#}\n", document(trace)))?,
        Ok(trace) => stdout::write(&waterfall::draw(trace))?,
        Err(problem) => {
            say::warn(&problem);
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The waterfall of trace `id` as soon as all of it has arrived, or after `timeout` as much of it
/// as there is. `root` is the id of the caller's own span, which is not exported.
///
/// # Errors
///
/// When nothing of the trace arrives in time or the stored traces cannot be read.
pub(crate) async fn wait_and_draw(
    dir: &Path,
    id: &str,
    root: &str,
    timeout: Duration,
) -> anyhow::Result<String> {
    let give_up = Instant::now() + timeout;
    loop {
        let traces = load(dir)?;
        let found = traces.iter().find(|trace| trace.id == id);
        match found {
            Some(trace) if trace.is_complete(root) => return Ok(waterfall::draw(trace)),
            Some(trace) if Instant::now() >= give_up => {
                return Ok(format!(
                    "{}incomplete: a service has not exported yet\n",
                    waterfall::draw(trace)
                ));
            }
            None if Instant::now() >= give_up => {
                bail!(
                    "no span of trace {id} arrived in {} within {timeout:?}: does the service export there?",
                    dir.display()
                )
            }
            _ => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

/// Reads the command line; nothing when it asks for help.
fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Request>> {
    let mut parser = lexopt::Parser::from_args(args);
    let command = match parser.next().context(USAGE)? {
        Some(Long("help") | Short('h')) => return Ok(None),
        Some(Value(command)) => command.string().context(USAGE)?,
        _ => bail!("{USAGE}"),
    };
    let filter =
        Filter { limit: Filter::LIMIT, service: None, errors: false, millis_min: 0, probes: false };
    let mut request = Request { id: None, filter, json: false, instance: None };
    let listing = match command.as_str() {
        "ls" => true,
        "show" => false,
        other => bail!("unknown command trace {other}\n{USAGE}"),
    };
    while let Some(argument) = parser.next().context(USAGE)? {
        match argument {
            Long("help") | Short('h') => return Ok(None),
            Long("json") => request.json = true,
            Long("instance") => request.instance = Some(parser.value()?.string()?),
            Long("limit") if listing => request.filter.limit = parser.value()?.parse()?,
            Long("service") if listing => request.filter.service = Some(parser.value()?.string()?),
            Long("all") if listing => request.filter.probes = true,
            Long("errors") if listing => request.filter.errors = true,
            Long("min-ms") if listing => request.filter.millis_min = parser.value()?.parse()?,
            Value(id) if !listing && request.id.is_none() => request.id = Some(id.string()?),
            other => return Err(other.unexpected()).context(USAGE),
        }
    }
    if !listing && request.id.is_none() {
        bail!("trace show takes the id of a trace, or the start of one\n{USAGE}");
    }
    Ok(Some(request))
}

fn load(dir: &Path) -> anyhow::Result<Vec<Trace>> {
    Ok(model::assemble(store::read(dir)?))
}

fn list(traces: &[Trace], request: &Request, dir: &Path) -> anyhow::Result<ExitCode> {
    let listed = request.filter.apply(traces);
    if request.json {
        let summaries: Json = listed.iter().map(|trace| list::summary(trace)).collect();
        stdout::write(&format!("{summaries:#}\n"))?;
    } else if traces.is_empty() {
        say::warn(&format!("no trace in {} yet: call a service first", dir.display()));
    } else {
        stdout::write(&list::table(&listed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The trace whose id starts with `prefix`, or what to tell who asked for it.
fn find<'a>(traces: &'a [Trace], prefix: &str) -> Result<&'a Trace, String> {
    let wanted = prefix.to_ascii_lowercase();
    if wanted.is_empty() || !wanted.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(format!("{prefix:?} is no trace id: it has hexadecimal digits only"));
    }
    let mut matching = traces.iter().filter(|trace| trace.id.starts_with(&wanted));
    match (matching.next(), matching.next()) {
        (Some(trace), None) => Ok(trace),
        (Some(one), Some(other)) => {
            Err(format!("{prefix} is the start of {} and {}: give more of it", one.id, other.id))
        }
        (None, _) => Err(format!(
            "no trace {prefix} among the {} kept: `cargo xtask trace ls` lists them",
            traces.len()
        )),
    }
}

fn document(trace: &Trace) -> Json {
    let mut document = list::summary(trace);
    document["spans"] = trace.spans.iter().map(model::Span::to_json).collect();
    document["span_count"] = json!(trace.spans.len());
    document
}
