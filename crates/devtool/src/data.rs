//! `cargo xtask migrate` and `cargo xtask seed`: the schema and the data of an instance.

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use anyhow::Context as _;
use forebay_postgres::migrate as schema;
use forebay_seed::Existing;
use lexopt::prelude::*;

use self::bar::Bar;
use crate::workspace::Workspace;
use crate::{say, stdout};

mod bar;
mod database;

const SEED_USAGE: &str = "usage: cargo xtask seed [--scale N] [--reset] [--instance NAME]
Stores the real tokens and pools, and with --scale N as many invented tokens as well.
  --reset   sets rows of the seed data back that have been changed since
The database is that of the instance, or DATABASE_URL when it is set and no instance is named.";

const MIGRATE_USAGE: &str = "usage: cargo xtask migrate [--instance NAME]
Brings the database to the schema of this checkout.
The database is that of the instance, or DATABASE_URL when it is set and no instance is named.";

/// Invented rows depend on this number alone, so that everybody measures the same ones.
const SYNTHETIC_SEED: u64 = 1;

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    help: bool,
    instance: Option<String>,
    scale: Option<u64>,
    reset: bool,
}

/// Runs `migrate`.
///
/// # Errors
///
/// When there is no database, or its history is not that of this checkout.
pub(crate) fn migrate(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let request = parse(args, false).context(MIGRATE_USAGE)?;
    if request.help {
        say::line(MIGRATE_USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let database = database::of(workspace, request.instance.as_deref())?;
    let report = block_on(async { Ok(schema::run(&database.url).await?) })
        .with_context(|| format!("migrate {database}"))?;
    for applied in &report.applied {
        say::line(&format!("applied V{} {}", applied.version, applied.name));
    }
    let news = if report.applied.is_empty() { "already " } else { "now " };
    say::line(&format!("{database} is {news}at version {}", report.version));
    Ok(ExitCode::SUCCESS)
}

/// Runs `seed`.
///
/// # Errors
///
/// When there is no database, or it is not migrated, or it refuses a row.
pub(crate) fn seed(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let request = parse(args, true).context(SEED_USAGE)?;
    if request.help {
        say::line(SEED_USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let database = database::of(workspace, request.instance.as_deref())?;
    let existing = if request.reset { Existing::Reset } else { Existing::Keep };
    let mut bar = Bar::new();
    let report = block_on(forebay_seed::seed(&database.url, existing, |at| bar.show(at)))
        .with_context(|| format!("seed {database}"))?;
    bar.finish();
    stdout::write(&format!("{database}: {report}\n"))?;
    if let Some(count) = request.scale {
        let mut bar = Bar::new();
        let scaling = forebay_seed::scale(&database.url, count, SYNTHETIC_SEED, |at| bar.show(at));
        let report = block_on(scaling).with_context(|| format!("scale {database}"))?;
        bar.finish();
        stdout::write(&format!("{database}: synthetic {report}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>, seeding: bool) -> anyhow::Result<Request> {
    let mut request = Request::default();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => request.help = true,
            Long("instance") => request.instance = Some(parser.value()?.string()?),
            Long("scale") if seeding => request.scale = Some(parser.value()?.parse()?),
            Long("reset") if seeding => request.reset = true,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(request)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read() {
        let request =
            |args: &[&str], seeding| parse(args.iter().map(OsString::from).collect(), seeding).ok();
        let scaled = Request { scale: Some(5), reset: true, ..Request::default() };
        let named = Request { instance: Some("a".to_owned()), ..Request::default() };
        let cases = [
            (vec!["--scale", "5", "--reset"], true, Some(scaled)),
            (vec!["--scale", "5"], false, None),
            (vec!["--scale=-1"], true, None),
            (vec!["--instance=a"], false, Some(named)),
            (vec!["extra"], true, None),
        ];
        for (args, seeding, expected) in cases {
            assert_eq!(request(&args, seeding), expected, "{args:?}");
        }
    }
}
