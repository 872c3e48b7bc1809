//! `cargo xtask bench`: us and the peers, interleaved in one run.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use forebay_provision::guard;
use forebay_seed::Existing;
use lexopt::prelude::*;

use self::report::Case;
use crate::ephemeral::{Backends, Dir};
use crate::workspace::Workspace;
use crate::{cargo, say, stdout};

mod report;

const USAGE: &str = "usage: cargo xtask bench [NAME] [--json]
Runs one bench, or all: grpc.
Us and the peers run in turn, on a Postgres and a Redis of their own; the table goes to
docs/benchmarks.md. With --json one object a line goes to the standard output and no file is
written.";

/// Every bench: its name, and the program in `crates/bench` that runs it.
const BENCHES: [&str; 1] = ["grpc"];

struct Request {
    names: Vec<&'static str>,
    json: bool,
    help: bool,
}

/// Runs the benches.
///
/// # Errors
///
/// When something cannot be built or started, or a bench fails. A missed goal is no error: it is
/// in the report.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let request = parse(args).context(USAGE)?;
    if request.help {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    build(workspace)?;
    guard::install(&cargo::own_program()?).context("start the guard")?;
    let dir = Dir::create()?;
    let backends = Backends::start(dir.path())?;
    prepare(&backends.postgres_url())?;
    let mut cases = Vec::new();
    for name in request.names {
        cases.extend(run_one(name, workspace, &backends, request.json)?);
    }
    backends.stop();
    guard::close();
    if !request.json {
        let file = workspace.root.join("docs/benchmarks.md");
        std::fs::write(&file, report::page(&cases)).context("write docs/benchmarks.md")?;
        stdout::write(&report::table(&cases))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Request> {
    let mut request = Request { names: Vec::new(), json: false, help: false };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => request.json = true,
            Long("help") | Short('h') => request.help = true,
            Value(name) => {
                let known = BENCHES.into_iter().find(|known| name == *known);
                request.names.push(known.with_context(|| format!("no bench {name:?}"))?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if request.names.is_empty() {
        request.names.extend(BENCHES);
    }
    Ok(request)
}

/// Both sides in release mode: a debug build measures the compiler.
fn build(workspace: &Workspace) -> anyhow::Result<()> {
    let ours = ["build", "--release", "--package", "forebay-token-server"];
    let peers = ["build", "--release", "--locked", "--manifest-path", "crates/bench/Cargo.toml"];
    for args in [&ours[..], &peers[..]] {
        let status = cargo::command(workspace).args(args).status().context("start cargo")?;
        ensure!(status.success(), "cargo {} failed: {status}", args.join(" "));
    }
    Ok(())
}

fn prepare(url: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        forebay_postgres::migrate::run(url).await.context("migrate")?;
        forebay_seed::seed(url, Existing::Keep, |_| {}).await.context("seed")?;
        Ok(())
    })
}

fn run_one(
    name: &str,
    workspace: &Workspace,
    backends: &Backends,
    json: bool,
) -> anyhow::Result<Vec<Case>> {
    say::warn(&format!("bench: {name}, about a minute"));
    let target = cargo::bin_dir()?;
    let target = target.parent().context("programs are built into target/<profile>")?;
    let output = Command::new(workspace.root.join("crates/bench/target/release").join(name))
        .env("FOREBAY_BENCH_BIN_DIR", target.join("release"))
        .env("DATABASE_URL", backends.postgres_url())
        .env("REDIS_URL", backends.redis_url())
        .envs(backends.load_generators()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start the bench {name}"))?;
    if !output.status.success() {
        bail!("the bench {name} failed: {}", output.status);
    }
    let lines = String::from_utf8(output.stdout).context("a bench prints UTF-8")?;
    if json {
        stdout::write(&lines)?;
    }
    lines.lines().map(report::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benches_are_named_or_all_are_run() {
        let names = |args: &[&str]| {
            parse(args.iter().map(OsString::from).collect()).ok().map(|request| request.names)
        };
        assert_eq!(names(&[]), Some(BENCHES.to_vec()));
        assert_eq!(names(&["--json", "grpc"]), Some(vec!["grpc"]));
        assert_eq!(names(&["nonsense"]), None);
    }
}
