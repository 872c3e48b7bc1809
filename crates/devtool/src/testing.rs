//! `cargo xtask test`: every test, on a Postgres and a Redis that exist for this run alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::{
    Output, Process, ProvisionError, Search, StopSignal, Stopwatch, guard, identity, ports,
    postgres, redis,
};

use crate::signals::Interrupts;
use crate::workspace::Workspace;
use crate::{cargo, say};

const USAGE: &str = "usage: cargo xtask test [ARGUMENTS OF cargo test]
Starts a Postgres and a Redis of its own, builds the servers, and runs `cargo test`: the whole
workspace unless a package is named. Ends with the exit code of the tests.";

/// Asked to stop, the tests get this long before they are killed.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the tests.
///
/// # Errors
///
/// When the servers cannot be provided or cargo cannot be started.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    if args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h") {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start a runtime")?;
    let code = runtime.block_on(run_in(args, workspace));
    // A build that was interrupted is not waited for.
    runtime.shutdown_background();
    guard::close();
    code
}

async fn run_in(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install().context("listen for signals")?;
    let program = cargo::own_program()?;
    guard::install(&program).context("start the guard")?;
    let dir = TestDir::create()?;

    let building = cargo_step(workspace, build_args(&args), Vec::new())?;
    let backends = {
        let dir = dir.0.clone();
        tokio::task::spawn_blocking(move || Backends::start(&dir))
    };
    let Some(code) = finish(&building, &mut interrupts).await else {
        return Ok(interrupted());
    };
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    let backends = backends.await.context("start the servers")??;
    let env = backends.environment(&dir.0, &program)?;
    let testing = cargo_step(workspace, test_args(&args), env)?;
    let code = finish(&testing, &mut interrupts).await;
    backends.stop();
    Ok(code.unwrap_or_else(interrupted))
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
    let mut test: Vec<OsString> = vec!["test".into()];
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

/// The folder of everything that a run writes, removed at its end.
struct TestDir(PathBuf);

impl TestDir {
    fn create() -> anyhow::Result<Self> {
        let name = format!("forebay-test-{}", std::process::id());
        let user = identity::RunAs::for_servers();
        // Postgres may run as another user, who must be able to get there.
        let base = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")]
            .into_iter()
            .find(|dir| dir.is_dir() && user.as_ref().is_none_or(|user| user.reaches(dir)))
            .context("no temporary directory that Postgres can reach")?;
        let dir = base.join(name);
        std::fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&dir, open)
            .with_context(|| format!("open up {}", dir.display()))?;
        guard::add_dir(&dir);
        Ok(Self(dir))
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            say::warn(&format!("test: remove {}: {error}", self.0.display()));
        }
    }
}

struct Backends {
    postgres: postgres::Server,
    postgres_tools: postgres::PostgresTools,
    redis: redis::Server,
    redis_tools: redis::RedisTools,
}

impl Backends {
    fn start(dir: &Path) -> anyhow::Result<Self> {
        let watch = Stopwatch::start();
        let progress = |line: &str| say::warn(&format!("test: {line}"));
        let found = redis::find(&Search::from_env("REDIS").with_progress(progress))?;
        let redis_tools = found.tool;
        let redis = on_free_port(|port| {
            let options = redis::Options { dir: dir.join("redis"), port, ..Default::default() };
            redis::Server::start(&redis_tools, options)
        })?;
        let found = postgres::find(&Search::from_env("PG").with_progress(progress))?;
        let postgres_tools = found.tool;
        // A test run that dies leaves nothing worth recovering.
        let settings = [
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("max_connections", "300"),
            ("jit", "off"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let postgres = on_free_port(|port| {
            let options = postgres::Options {
                dir: dir.join("postgres"),
                port,
                settings: settings.clone(),
                output: Output::File(dir.join("postgres.log")),
            };
            postgres::Server::start(&postgres_tools, options)
        })?;
        say::warn(&format!(
            "test: Postgres {} and {} up in {}",
            postgres_tools.version,
            redis_tools.version,
            say::time(watch.elapsed())
        ));
        Ok(Self { postgres, postgres_tools, redis, redis_tools })
    }

    /// What the tests read; `testkit` says what each is for.
    fn environment(
        &self,
        dir: &Path,
        program: &Path,
    ) -> anyhow::Result<Vec<(&'static str, OsString)>> {
        let wrapper = dir.join("redis-server");
        self.redis_tools.write_wrapper(&wrapper).context("write the wrapper of redis-server")?;
        Ok(vec![
            ("FOREBAY_TEST_POSTGRES_URL", self.postgres.url("postgres").into()),
            ("FOREBAY_TEST_REDIS_URL", self.redis.url().into()),
            ("FOREBAY_TEST_PG_BIN", self.postgres_tools.bin.clone().into()),
            (
                "FOREBAY_TEST_PG_LIBRARIES",
                self.postgres_tools.libraries.clone().unwrap_or_default(),
            ),
            ("FOREBAY_TEST_REDIS_SERVER", wrapper.into()),
            ("FOREBAY_TEST_BIN_DIR", cargo::bin_dir()?.into()),
            ("FOREBAY_TEST_DIR", dir.into()),
            (guard::PROGRAM_ENV, program.into()),
        ])
    }

    /// Nothing here is kept, so nobody waits for a checkpoint.
    fn stop(self) {
        self.redis.kill();
        drop(self.postgres);
    }
}

/// A free port may be taken by somebody else before it is used; then another one is tried.
fn on_free_port<T>(start: impl Fn(u16) -> Result<T, ProvisionError>) -> anyhow::Result<T> {
    const ATTEMPTS: usize = 5;
    for _ in 1..ATTEMPTS {
        match start(ports::choose(&[], &[]).context("no free port")?) {
            Err(ProvisionError::PortTaken { .. }) => {}
            started => return Ok(started?),
        }
    }
    Ok(start(ports::choose(&[], &[]).context("no free port")?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_named() {
        let cases = [
            (vec![], "test --workspace"),
            (vec!["lookup"], "test --workspace lookup"),
            (vec!["-p", "forebay-cache", "x"], "test -p forebay-cache x"),
            (vec!["-pforebay-cache"], "test -pforebay-cache"),
            (vec!["--", "-p", "--nocapture"], "test --workspace -- -p --nocapture"),
            (vec!["--package=a", "--", "b"], "test --package=a -- b"),
        ];
        for (args, expected) in cases {
            let args: Vec<OsString> = args.into_iter().map(OsString::from).collect();
            let joined = test_args(&args).join(" ".as_ref());
            assert_eq!(joined.to_string_lossy(), expected);
        }
    }
}
