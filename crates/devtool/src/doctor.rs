//! `cargo xtask doctor`: what this machine offers, rung by rung, and what to do about what it lacks.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use forebay_provision::{
    Located, NotFound, Rung, Search, Skipped, pgbouncer, ports, postgres, redis,
};
use lexopt::prelude::*;
use serde::Serialize;

use crate::dev::{Engine, installed_jaeger, preferred_ports};
use crate::state::{Phase, State};
use crate::workspace::Workspace;
use crate::{say, stdout};

const USAGE: &str = "usage: cargo xtask doctor [--json]
Looks without changing or downloading anything. The exit code is 1 when something would keep
`cargo xtask dev` from working.";

/// Free space without which a build or a database would soon fail.
const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;

/// Open files without which Postgres and the services would run out.
const OPEN_FILES_MIN: u64 = 1024;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: Verdict,
    detail: String,
    fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: Verdict::Ok, detail: detail.into(), fix: None }
    }

    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: Verdict::Warn, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: Verdict::Fail, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Prints the checks.
///
/// # Errors
///
/// When the arguments are wrong.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut as_json = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Long("json") => as_json = true,
            Long("help") | Short('h') => {
                say::line(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    let checks = checks(workspace)?;
    let ok = checks.iter().all(|check| check.state != Verdict::Fail);
    if as_json {
        let document = serde_json::json!({ "ok": ok, "checks": checks });
        stdout::write(&format!("{document:#}\n"))?;
    } else {
        stdout::write(&text(&checks))?;
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What would certainly fail later, found before anything is started.
///
/// # Errors
///
/// The first failing check with its fix, in one line.
pub(crate) fn essentials(workspace: &Workspace) -> anyhow::Result<()> {
    for check in [writable(workspace), space(&workspace.root)] {
        if check.state == Verdict::Fail {
            bail!("{}: {}; {}", check.name, check.detail, check.fix.unwrap_or_default());
        }
    }
    Ok(())
}

fn checks(workspace: &Workspace) -> anyhow::Result<Vec<Check>> {
    let state = State::load(&workspace.instance(None)?);
    let running = state.as_ref().is_ok_and(|s| s.as_ref().is_some_and(State::is_running));
    let mut checks = vec![rust(), writable(workspace), space(&workspace.root), open_files()];
    checks.push(store(
        "postgres",
        Some("DATABASE_URL"),
        postgres::find(&offline("PG")),
        |tools: &postgres::PostgresTools| {
            format!("Postgres {} in {}", tools.version, tools.bin.display())
        },
    ));
    checks.push(store(
        "redis",
        Some("REDIS_URL"),
        redis::find(&offline("REDIS")),
        |tools: &redis::RedisTools| format!("{} at {}", tools.version, tools.server.display()),
    ));
    checks.push(pooler());
    checks.push(load_generators(&offline("REDIS")));
    checks.push(traces());
    checks.push(match state {
        Err(error) => Check::fail("state", format!("{error:#}"), "cargo xtask dev --fresh"),
        Ok(Some(state)) if !state.is_running() && state.phase == Phase::Ready => Check::warn(
            "state",
            "the last supervisor was killed",
            "nothing to do: the next cargo xtask dev clears it up",
        ),
        Ok(_) => {
            Check::ok("state", if running { "an instance is running" } else { "nothing runs" })
        }
    });
    if !running {
        checks.push(taken_ports());
    }
    Ok(checks)
}

fn offline(name: &str) -> Search {
    Search { fetch: false, ..Search::from_env(name) }
}

fn rust() -> Check {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let version = Command::new(cargo).arg("--version").output();
    match version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()) {
        Ok(version) if !version.is_empty() => Check::ok("cargo", version),
        _ => Check::fail("cargo", "does not run", "install Rust: https://rustup.rs"),
    }
}

fn writable(workspace: &Workspace) -> Check {
    let dir = workspace.root.join(".dev");
    // A name of our own: another command may look at the same time.
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    let tried = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&probe, ""));
    match tried.and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => Check::ok("state folder", dir.display().to_string()),
        Err(error) => Check::fail(
            "state folder",
            format!("{}: {error}", dir.display()),
            "give yourself the right to write there, and room",
        ),
    }
}

fn space(root: &Path) -> Check {
    let Ok(stats) = nix::sys::statvfs::statvfs(root) else {
        return Check::warn("disk", "cannot tell how much is free", "see df -h");
    };
    let free = stats.blocks_available().saturating_mul(stats.fragment_size());
    let detail = format!("{} MiB free", free / (1024 * 1024));
    if free < FREE_BYTES_MIN {
        return Check::fail("disk", detail, "free 1 GiB, with `cargo clean` for a start");
    }
    Check::ok("disk", detail)
}

fn open_files() -> Check {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        Some(limit) if limit < OPEN_FILES_MIN => {
            Check::warn("open files", format!("limit {limit}"), "ulimit -n 4096")
        }
        Some(limit) => Check::ok("open files", format!("limit {limit}")),
        None => Check::ok("open files", "no limit known"),
    }
}

/// A server: named by `variable` in the environment, found, or still to be fetched.
fn store<T>(
    name: &'static str,
    variable: Option<&str>,
    found: Result<Located<T>, NotFound>,
    describe: impl Fn(&T) -> String,
) -> Check {
    if let Some(variable) = variable
        && std::env::var_os(variable).is_some_and(|url| !url.is_empty())
    {
        return Check::ok(name, format!("{variable} is set and will be used"));
    }
    match found {
        Ok(found) => {
            let detail = format!("{}: {}", found.rung, describe(&found.tool));
            Check::ok(name, detail + &passed_over(&found.skipped))
        }
        Err(missing) if has_program("apt-get") && has_program("dpkg-deb") => Check::ok(
            name,
            format!(
                "apt: fetched at the first use, without installing{}",
                passed_over(&missing.skipped)
            ),
        ),
        Err(missing) if has_program("python3") => Check::warn(
            name,
            format!("pip: fetched at the first use{}", passed_over(&missing.skipped)),
            missing.fix,
        ),
        Err(missing) => Check::fail(name, missing.to_string(), missing.fix.clone()),
    }
}

/// What only `cargo xtask test` needs, so that its absence is no failure here.
fn pooler() -> Check {
    let describe = |tools: &pgbouncer::PgBouncerTools| {
        format!("pgbouncer {} at {}", tools.version, tools.program.path.display())
    };
    let check = store("pgbouncer", None, pgbouncer::find(&offline("PGBOUNCER")), describe);
    match (check.state, check.fix) {
        (Verdict::Ok, fix) => Check { fix, ..check },
        // No wheel holds it, so there is no other way than the named one.
        (Verdict::Warn | Verdict::Fail, fix) => Check::warn(
            check.name,
            "not here, and cargo xtask test needs it",
            fix.unwrap_or_default(),
        ),
    }
}

/// What `cargo xtask bench` compares us with, when it is there.
fn load_generators(search: &Search) -> Check {
    let redis = redis::find(search).ok().and_then(|found| found.tool.benchmark(search));
    let postgres = postgres::find(&offline("PG")).ok();
    let pgbench = postgres.and_then(|found| found.tool.program("pgbench"));
    let tools = [("redis-benchmark", redis), ("pgbench", pgbench)];
    let shown = tools.map(|(name, tool)| match tool {
        Some(tool) => tool.path.display().to_string(),
        None => format!("no {name} yet, it comes with its server"),
    });
    Check::ok("benchmarks", shown.join(", "))
}

fn passed_over(skipped: &[Skipped]) -> String {
    let tried = skipped.iter().filter(|skipped| !matches!(skipped.rung, Rung::Apt | Rung::Pip));
    tried
        .map(|skipped| format!("\n      passed over {}: {}", skipped.rung, skipped.reason))
        .collect()
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn traces() -> Check {
    if let Ok(endpoint) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") {
        return Check::ok("traces", format!("OTEL_EXPORTER_OTLP_ENDPOINT is set: {endpoint}"));
    }
    match installed_jaeger() {
        Some(program) => Check::ok("traces", format!("Jaeger: {}", program.display())),
        None => Check::ok(
            "traces",
            Engine::find().map_or_else(
                || "no Jaeger here: the built-in receiver takes them".to_owned(),
                |engine| format!("Jaeger: {}", engine.describe()),
            ),
        ),
    }
}

fn taken_ports() -> Check {
    let taken: Vec<String> = preferred_ports()
        .into_iter()
        .filter(|port| !ports::is_free(*port))
        .map(|port| port.to_string())
        .collect();
    if taken.is_empty() {
        return Check::ok("ports", "all well-known ones are free");
    }
    Check::warn(
        "ports",
        format!("taken by others: {}", taken.join(", ")),
        "nothing to do: what needs them moves, and every printed address agrees",
    )
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.state {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        text.push_str(&format!("{mark}  {:<13} {}\n", check.name, check.detail));
        if let Some(fix) = &check.fix {
            text.push_str(&format!("      fix: {fix}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_check_names_its_fix() {
        let missing = NotFound {
            tool: "Redis",
            fix: "install it".to_owned(),
            skipped: vec![Skipped { rung: Rung::Installed, reason: "not on PATH".to_owned() }],
        };
        let check = store::<()>("redis", None, Err(missing), |()| String::new());
        let shown = text(std::slice::from_ref(&check));
        assert!(shown.contains("not on PATH"), "{shown}");
        let free = text(&[Check::fail("disk", "1 MiB free", "free some")]);
        assert_eq!(free, "FAIL  disk          1 MiB free\n      fix: free some\n");
    }
}
