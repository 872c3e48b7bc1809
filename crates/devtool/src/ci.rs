//! `cargo xtask ci`: what a change must pass, in the order in which a failure is cheapest to learn.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_provision::Stopwatch;
use lexopt::prelude::*;

use crate::workspace::Workspace;
use crate::{cargo, chaos, codegen, proto_lint, say, testing, tidy};

const USAGE: &str = "usage: cargo xtask ci [--keep-going]
Checks format, lints, house rules, generated code, contracts and documentation, then runs
`cargo xtask test`. Stops at the first failure unless told to keep going.";

/// How long the history of the cache is looked at, which `cargo xtask test` does once through its
/// faults.
const HISTORY_SECONDS: &str = "120";

type Step = (&'static str, fn(&Workspace) -> anyhow::Result<ExitCode>);

const STEPS: [Step; 8] = [
    ("format", |workspace| cargo_step(workspace, &["fmt", "--all", "--check"], &[])),
    ("tidy", |workspace| tidy::run(Vec::new(), workspace)),
    ("generated code", |workspace| codegen::run(vec!["--check".into()], workspace)),
    ("proto lint", |workspace| proto_lint::run(vec!["lint".into()], workspace)),
    ("clippy", |workspace| {
        let args = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        cargo_step(workspace, &args, &[])
    }),
    ("clippy of benches", |workspace| {
        // A workspace of its own, so that the peers pull no version into the product.
        let of_benches = ["clippy", "--manifest-path", "crates/bench/Cargo.toml", "--locked"];
        let args = [of_benches.as_slice(), &["--all-targets", "--", "-D", "warnings"]].concat();
        cargo_step(workspace, &args, &[])
    }),
    ("documentation", |workspace| {
        let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        cargo_step(workspace, &args, &[("RUSTDOCFLAGS", "-D warnings")])
    }),
    ("test", |workspace| {
        let env = vec![(chaos::SECONDS, HISTORY_SECONDS.into())];
        testing::run_with(Vec::new(), env, workspace)
    }),
];

/// Runs every step and prints a summary.
///
/// # Errors
///
/// When the arguments are wrong. A step that fails is not an error but an exit code.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut keep_going = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("keep-going") => keep_going = true,
            Long("help") | Short('h') => {
                say::line(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            _ => bail!("{USAGE}"),
        }
    }
    let mut summary = Vec::new();
    let mut failed = false;
    for (name, step) in STEPS {
        if failed && !keep_going {
            summary.push((name, "not run", Duration::ZERO));
            continue;
        }
        say::line(&format!("ci: {name}"));
        let watch = Stopwatch::start();
        let passed = match step(workspace) {
            Ok(code) => code == ExitCode::SUCCESS,
            Err(error) => {
                say::warn(&format!("ci: {name}: {error:#}"));
                false
            }
        };
        failed |= !passed;
        let verdict = if passed { "ok" } else { "FAILED" };
        say::line(&format!("ci: {name} {verdict} in {}", say::time(watch.elapsed())));
        summary.push((name, verdict, watch.elapsed()));
    }
    print_summary(&summary);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_summary(summary: &[(&str, &str, Duration)]) {
    say::line("");
    for (name, verdict, time) in summary {
        let time = if time.is_zero() { String::new() } else { say::time(*time) };
        say::line(&format!("  {name:<16} {verdict:<8} {time:>12}"));
    }
    let total = summary.iter().map(|(_, _, time)| *time).sum();
    say::line(&format!("  {:<16} {:<8} {:>12}", "total", "", say::time(total)));
}

fn cargo_step(
    workspace: &Workspace,
    args: &[&str],
    env: &[(&str, &str)],
) -> anyhow::Result<ExitCode> {
    let status = cargo::command(workspace)
        .args(args)
        .envs(env.iter().copied())
        .status()
        .context("start cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
