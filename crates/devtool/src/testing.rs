//! `cargo xtask test`: every test, on a Postgres and a Redis that exist for this run alone.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::{Output, Process, StopSignal, guard};

use crate::ephemeral::{Backends, Dir, find_pgbouncer};
use crate::signals::Interrupts;
use crate::workspace::Workspace;
use crate::{cargo, say};

const USAGE: &str = "usage: cargo xtask test [--times N] [ARGUMENTS OF cargo test]
Starts a Postgres and a Redis of its own, finds a pgbouncer, builds the servers, and runs
`cargo test`: the whole workspace unless a package is named. Ends with the exit code of the tests.
With --times the tests run N times on the same servers, also after one has failed, and the last line
tells how many runs passed.";

/// Asked to stop, the tests get this long before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the tests.
///
/// # Errors
///
/// When the servers cannot be provided or cargo cannot be started.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    run_with(args, Vec::new(), workspace)
}

/// As [`run`], with further environment variables for the tests.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_with(
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    workspace: &Workspace,
) -> anyhow::Result<ExitCode> {
    if args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let mut args = args;
    let times = take_times(&mut args)?;
    run_steps((build_args(&args), test_args(&args), times), env, workspace)
}

/// Runs tests once, after a build of another kind.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn run_built(
    build: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
    workspace: &Workspace,
) -> anyhow::Result<ExitCode> {
    run_steps((build, test_args(&args), 1), env, workspace)
}

/// What cargo does first, what it does then, and how often.
type Steps = (Vec<OsString>, Vec<OsString>, u32);

fn run_steps(
    steps: Steps,
    env: Vec<(&'static str, OsString)>,
    workspace: &Workspace,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let code = runtime.block_on(run_in(steps, env, workspace));
    // A build that was interrupted is not waited for.
    runtime.shutdown_background();
    guard::close();
    code
}

async fn run_in(
    (build, test, times): Steps,
    mut further: Vec<(&'static str, OsString)>,
    workspace: &Workspace,
) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install().context("listen for signals")?;
    let program = cargo::own_program()?;
    guard::install(&program).context("start the guard")?;
    let dir = Dir::create()?;

    let building = cargo_step(workspace, build, Vec::new())?;
    let backends = {
        let dir = dir.path().to_path_buf();
        tokio::task::spawn_blocking(move || {
            let pgbouncer = find_pgbouncer()?;
            anyhow::Ok((Backends::start(&dir)?, pgbouncer))
        })
    };
    let Some(code) = finish(&building, &mut interrupts).await else {
        return Ok(interrupted());
    };
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let (backends, pgbouncer) = backends.await.context("start the servers")??;
    let mut env = backends.environment(&program, &pgbouncer)?;
    env.append(&mut further);
    let mut worst = ExitCode::SUCCESS;
    let mut passed = 0;
    for _ in 0..times {
        let testing = cargo_step(workspace, test.clone(), env.clone())?;
        let Some(code) = finish(&testing, &mut interrupts).await else {
            return Ok(interrupted());
        };
        if code == ExitCode::SUCCESS {
            passed += 1;
        } else {
            worst = code;
        }
    }
    backends.stop();
    if times > 1 {
        say::warn(&format!("test: {passed} of {times} runs passed"));
    }
    Ok(worst)
}

/// Takes `--times N` out of the arguments; without it the tests run once.
fn take_times(args: &mut Vec<OsString>) -> anyhow::Result<u32> {
    let mut of_cargo = args.iter().take_while(|arg| *arg != "--");
    let Some(at) = of_cargo.position(|arg| arg == "--times") else {
        return Ok(1);
    };
    let times = args.get(at + 1).and_then(|times| times.to_str()?.parse().ok());
    let times = times.filter(|times| *times > 0).context("--times needs a number above 0")?;
    args.drain(at..at + 2);
    Ok(times)
}

fn interrupted() -> ExitCode {
    const BY_SIGNAL_INT: u8 = 130;
    say::warn("test: stopped");
    ExitCode::from(BY_SIGNAL_INT)
}

fn cargo_step(
    workspace: &Workspace,
    args: Vec<OsString>,
    env: Vec<(&'static str, OsString)>,
) -> anyhow::Result<Arc<Process>> {
    let mut command = cargo::command(workspace);
    command.args(args).envs(env);
    let process = Process::spawn(command, StopSignal::Terminate, &Output::Inherit, None)?;
    Ok(Arc::new(process))
}

/// Waits for a cargo to end; `None` when we were asked to stop first, and then it is stopped.
async fn finish(process: &Arc<Process>, interrupts: &mut Interrupts) -> Option<ExitCode> {
    let waiting = Arc::clone(process);
    let mut waiting = tokio::task::spawn_blocking(move || {
        loop {
            if let Some(status) = waiting.wait(Duration::from_secs(3600)) {
                return status;
            }
        }
    });
    let status = tokio::select! {
        status = &mut waiting => status,
        () = interrupts.at_least(1) => {
            let stopping = Arc::clone(process);
            let stopped = tokio::task::spawn_blocking(move || stopping.stop(GRACE));
            tokio::select! {
                _ = stopped => {}
                () = interrupts.at_least(2) => process.kill(),
            }
            return None;
        }
    };
    let code = status.ok().and_then(|status| status.code()).unwrap_or(1);
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Programs and tests are built in one go, so that their dependencies are built once.
fn build_args(args: &[OsString]) -> Vec<OsString> {
    let (of_cargo, _) = split(args);
    let mut build: Vec<OsString> = vec!["build".into()];
    if names_package(&of_cargo) {
        build.extend(cargo::PRODUCT.iter().flat_map(|name| ["--package".into(), name.into()]));
        return build;
    }
    build.extend(["--workspace", "--bins", "--tests"].map(OsString::from));
    build
}

fn test_args(args: &[OsString]) -> Vec<OsString> {
    let (of_cargo, of_tests) = split(args);
    // One run tells everything that is broken, not only the first of it.
    let mut test: Vec<OsString> = vec!["test".into(), "--no-fail-fast".into()];
    if !names_package(&of_cargo) {
        test.push("--workspace".into());
    }
    test.extend(of_cargo);
    test.extend(of_tests);
    test
}

/// Arguments before `--`, and from it on.
fn split(args: &[OsString]) -> (Vec<OsString>, Vec<OsString>) {
    let at = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (of_cargo, of_tests) = args.split_at(at);
    (of_cargo.to_vec(), of_tests.to_vec())
}

fn names_package(args: &[OsString]) -> bool {
    args.iter().filter_map(|arg| arg.to_str()).any(|arg| {
        matches!(arg, "--workspace" | "--all" | "--package")
            || arg.starts_with("--package=")
            || (arg.starts_with("-p") && !arg.starts_with("--"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_named() {
        let cases = [
            (vec![], "test --no-fail-fast --workspace"),
            (vec!["lookup"], "test --no-fail-fast --workspace lookup"),
            (vec!["-p", "forebay-cache", "x"], "test --no-fail-fast -p forebay-cache x"),
            (vec!["-pforebay-cache"], "test --no-fail-fast -pforebay-cache"),
            (vec!["--", "-p", "--nocapture"], "test --no-fail-fast --workspace -- -p --nocapture"),
            (vec!["--package=a", "--", "b"], "test --no-fail-fast --package=a -- b"),
        ];
        for (args, expected) in cases {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            let joined = test_args(&args).join(" ".as_ref());
            assert_eq!(joined.to_string_lossy(), expected);
        }
    }
    #[test]
    fn the_tests_run_as_often_as_they_are_told_to() {
        let cases = [
            (vec!["-p", "a"], Some((1, "-p a"))),
            (vec!["-p", "a", "--times", "50", "x"], Some((50, "-p a x"))),
            (vec!["--", "--times", "2"], Some((1, "-- --times 2"))),
            (vec!["--times"], None),
            (vec!["--times", "0"], None),
            (vec!["--times", "often"], None),
        ];
        for (args, expected) in cases {
            let mut args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            let times = take_times(&mut args).ok();
            let joined = args.join(" ".as_ref());
            let found = times.map(|times| (times, joined.to_str().unwrap()));
            assert_eq!(found, expected);
        }
    }
}
