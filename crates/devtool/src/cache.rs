//! `cargo xtask cache`: the caches of every running service, live, and what an operator does to them.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use forebay_proto::ops::v1::{
    CacheEntryKey, ClearCacheRequest, EvictCacheEntryRequest, GetCacheStatsRequest,
    InspectCacheEntryRequest,
};
use lexopt::prelude::*;

use crate::fleet::Answer;
use crate::workspace::{Instance, Workspace};
use crate::{fleet, say, stdout};

mod entry;
mod table;

#[cfg(test)]
mod tests;

const USAGE: &str = "usage: cargo xtask cache [--json] [--watch] [--interval SECONDS]
       cargo xtask cache inspect ENTITY KEY     one entry in both levels
       cargo xtask cache evict ENTITY KEY       drop it, on every replica
       cargo xtask cache clear [ENTITY]         drop all of an entity, or everything
options: [--instance NAME]
One row for each service and one for each kind of entry. --json prints one object a line for each
service; --watch does so again every second until it is interrupted.";

/// What a service answers with.
const CONTRACT: &str = "forebay.ops.v1.GetCacheStatsResponse";

/// What was asked for.
#[derive(Debug)]
struct Request {
    action: Action,
    as_json: bool,
    watch: bool,
    interval: Duration,
    instance: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Show,
    Inspect {
        entity: String,
        key: String,
    },
    Evict {
        entity: String,
        key: String,
    },
    /// Everything, if the entity is empty.
    Clear {
        entity: String,
    },
}

/// Shows or changes the caches of an instance.
///
/// # Errors
///
/// When the arguments are wrong, the instance does not run, or none of its services knows what was
/// named.
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
        return Ok(ExitCode::SUCCESS);
    }
    let answer = async {
        match request.action {
            Action::Show => round(&instance, request.as_json).await,
            Action::Inspect { entity, key } => inspect(&instance, entity, key).await,
            Action::Evict { entity, key } => evict(&instance, entity, key).await,
            Action::Clear { entity } => clear(&instance, entity).await,
        }
    };
    stdout::write(&runtime.block_on(answer)?)?;
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Option<Request>> {
    let mut request = Request {
        action: Action::Show,
        as_json: false,
        watch: false,
        interval: fleet::INTERVAL,
        instance: None,
    };
    let mut words = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Value(word) => words.push(word.string().context(USAGE)?),
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
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    request.action = match words.as_slice() {
        [] => Action::Show,
        ["inspect", entity, key] => {
            Action::Inspect { entity: (*entity).to_owned(), key: (*key).to_owned() }
        }
        ["evict", entity, key] => {
            Action::Evict { entity: (*entity).to_owned(), key: (*key).to_owned() }
        }
        ["clear"] => Action::Clear { entity: String::new() },
        ["clear", entity] => Action::Clear { entity: (*entity).to_owned() },
        _ => bail!("{USAGE}"),
    };
    let shows = request.action == Action::Show;
    ensure!(shows || !(request.watch || request.as_json), "--watch and --json only show\n{USAGE}");
    Ok(Some(request))
}

/// Asks every service once. One that does not answer is said to be so beside the others.
async fn round(instance: &Instance, as_json: bool) -> anyhow::Result<String> {
    let answers = fleet::ask(instance, async |mut client| {
        Ok(client.get_cache_stats(fleet::request(GetCacheStatsRequest {})?).await)
    });
    let answers = fleet::some_reply(instance, answers.await?)?;
    if as_json {
        fleet::json_lines(&answers, CONTRACT)
    } else {
        Ok(table::text(&instance.name, &answers))
    }
}

/// The answers, if a service did what it was asked: each knows its own entities only.
fn known<T>(answers: Vec<Answer<T>>) -> anyhow::Result<Vec<Answer<T>>> {
    if answers.iter().all(|answer| answer.reply.is_err()) {
        let said = answers.iter().filter_map(|Answer { service, reply }| {
            reply.as_ref().err().map(|problem| format!("\n  {service}: {problem}"))
        });
        bail!("no service could do it:{}", said.collect::<String>());
    }
    Ok(answers)
}

async fn inspect(instance: &Instance, entity: String, key: String) -> anyhow::Result<String> {
    let entry = Some(CacheEntryKey { entity, key });
    let answers = fleet::ask(instance, async |mut client| {
        let request = fleet::request(InspectCacheEntryRequest { entry: entry.clone() })?;
        Ok(client.inspect_cache_entry(request).await)
    });
    Ok(entry::levels(&known(answers.await?)?))
}

async fn evict(instance: &Instance, entity: String, key: String) -> anyhow::Result<String> {
    let entry = Some(CacheEntryKey { entity, key });
    let answers = fleet::ask(instance, async |mut client| {
        let request = fleet::request(EvictCacheEntryRequest { entry: entry.clone() })?;
        Ok(client.evict_cache_entry(request).await)
    });
    Ok(entry::done(&known(answers.await?)?, |_evicted| "dropped on every replica".to_owned()))
}

async fn clear(instance: &Instance, entity: String) -> anyhow::Result<String> {
    let answers = fleet::ask(instance, async |mut client| {
        let request = fleet::request(ClearCacheRequest { entity: entity.clone() })?;
        Ok(client.clear_cache(request).await)
    });
    Ok(entry::done(&known(answers.await?)?, |cleared| {
        let confirmed = if cleared.confirmed {
            "Redis has confirmed"
        } else {
            "Redis does not answer; it is told when it does, and is not read before"
        };
        format!("{} entries dropped from memory; {confirmed}", cleared.l1_entries)
    }))
}
