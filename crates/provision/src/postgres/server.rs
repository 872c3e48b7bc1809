//! One Postgres server on a loopback port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::initialise;
use super::{PostgresTools, WireError, query};
use crate::identity::{self, RunAs};
use crate::proc_table::{self, Identity};
use crate::{
    Output, Process, ProvisionError, START_TIMEOUT, STOP_GRACE, StopSignal, Stopped, Stopwatch,
    command, pause, ports,
};

/// How to run a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Directory of the data; created when it does not hold a cluster yet. See [`data_dir`].
    pub dir: PathBuf,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Settings as `name`, `value`, such as `("fsync", "off")`.
    pub settings: Vec<(String, String)>,
    /// Where the log goes.
    pub output: Output,
}

/// A running server. Dropping it ends it without a checkpoint; [`Server::stop`] takes that time.
#[derive(Debug)]
pub struct Server {
    pub(super) tools: PostgresTools,
    pub(super) options: Options,
    user: Option<RunAs>,
    process: Process,
}

/// The directory that the server's user can reach: `preferred`, or one in `/var/tmp` when we are
/// root and `preferred` is below a private directory.
///
/// # Errors
///
/// When neither will do.
pub fn data_dir(preferred: &Path) -> Result<PathBuf, ProvisionError> {
    identity::reachable_dir(preferred, RunAs::for_servers().as_ref())
}

impl Server {
    /// Initialises the data directory if need be, starts the server and waits until it answers a
    /// query. The superuser is `postgres`, without a password, on 127.0.0.1 only.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::PortTaken`] when somebody else listens on the port,
    /// [`ProvisionError::MajorVersion`] when the data is another version's, and what initdb or the
    /// server said when they failed.
    pub fn start(tools: &PostgresTools, options: Options) -> Result<Self, ProvisionError> {
        Self::start_with(tools, options, |dir, user| initialise(tools, dir, user))
    }

    /// As [`Server::start`], on a directory that `fill` makes sure of.
    pub(super) fn start_with(
        tools: &PostgresTools,
        options: Options,
        fill: impl FnOnce(&Path, Option<&RunAs>) -> Result<(), ProvisionError>,
    ) -> Result<Self, ProvisionError> {
        let user = RunAs::for_servers();
        let dir = identity::reachable_dir(&options.dir, user.as_ref())?;
        let dir = std::path::absolute(&dir).map_err(ProvisionError::path("resolve", &dir))?;
        let options = Options { dir, ..options };
        fill(&options.dir, user.as_ref())?;
        let process = launch(tools, &options, user.as_ref())?;
        Ok(Self { tools: tools.clone(), options, user, process })
    }

    /// `postgres://` URL of a database on this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.options.port)
    }

    /// Port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Directory of the data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// The main process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the server and its backends at once, as a crash would.
    pub fn kill(&self) {
        self.process.kill();
        end_stragglers(&self.options.dir);
    }

    /// Stops the server: clients are disconnected, open transactions rolled back.
    pub fn stop(&self) -> Stopped {
        let stopped = self.process.stop(STOP_GRACE);
        end_stragglers(&self.options.dir);
        stopped
    }

    /// Suspends the server and all backends: connections stay open and nothing answers.
    pub fn suspend(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    /// Starts the server again, after [`Server::kill`] or [`Server::stop`] or its own death, on the
    /// same port and data.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<(), ProvisionError> {
        self.stop();
        self.process = launch(&self.tools, &self.options, self.user.as_ref())?;
        Ok(())
    }

    fn signal_all(&self, signal: Signal) {
        self.process.signal(signal);
        for process in proc_table::below(&self.options.dir) {
            // A backend that has ended meanwhile needs no signal.
            let _gone = kill(raw(process), signal);
        }
    }
}

impl Drop for Server {
    /// Ends the server the quick way, but lets it gather its children first.
    fn drop(&mut self) {
        const GRACE: Duration = Duration::from_secs(2);
        self.process.signal(Signal::SIGQUIT);
        self.process.stop(GRACE);
    }
}

fn raw(process: Identity) -> Pid {
    Pid::from_raw(i32::try_from(process.pid).unwrap_or(i32::MAX))
}

fn launch(
    tools: &PostgresTools,
    options: &Options,
    user: Option<&RunAs>,
) -> Result<Process, ProvisionError> {
    clear_stale_lock(&options.dir)?;
    if !ports::is_free(options.port) {
        return Err(ProvisionError::PortTaken { port: options.port });
    }
    // `postgres` itself, not pg_ctl: the server must be our own child to be waited for.
    let mut postgres = tools.command("postgres");
    postgres
        .arg("-D")
        .arg(&options.dir)
        .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "logging_collector=off", "-c", "log_destination=stderr"])
        .args(["-c", &format!("port={}", options.port)])
        .current_dir(&options.dir);
    for (name, value) in &options.settings {
        postgres.arg("-c").arg(format!("{name}={value}"));
    }
    if let Some(user) = user {
        user.apply(&mut postgres);
        postgres.env("HOME", &options.dir);
    }
    let process =
        Process::spawn(postgres, StopSignal::Interrupt, &options.output, Some(&options.dir))?;
    await_ready(&process, options)?;
    Ok(process)
}

/// Waits until a query is answered, and answered by the server that works in our directory.
fn await_ready(process: &Process, options: &Options) -> Result<(), ProvisionError> {
    const STEP: Duration = Duration::from_millis(10);
    let watch = Stopwatch::start();
    let mut last = String::from("no attempt was made");
    while watch.elapsed() < START_TIMEOUT {
        if let Some(status) = process.exit_status() {
            let tail = process.tail();
            if tail.iter().any(|line| line.contains("Address already in use")) {
                return Err(ProvisionError::PortTaken { port: options.port });
            }
            let output = command::joined(&tail);
            return Err(ProvisionError::Died { server: "Postgres", status, output });
        }
        if !says_ready(&options.dir) {
            pause(STEP);
            continue;
        }
        match query(options.port, "postgres", "select current_setting('data_directory')") {
            Ok(rows) => {
                let dir = rows.into_iter().flatten().flatten().next().unwrap_or_default();
                return same_dir(Path::new(&dir), &options.dir).then_some(()).ok_or_else(|| {
                    let detail = format!("its data directory is {dir}");
                    ProvisionError::Foreign { server: "Postgres", port: options.port, detail }
                });
            }
            Err(WireError::Server { sqlstate, message }) if sqlstate != "57P03" => {
                let detail = format!("{sqlstate} {message}");
                return Err(ProvisionError::Foreign {
                    server: "Postgres",
                    port: options.port,
                    detail,
                });
            }
            Err(error) => last = command::describe(&error),
        }
        pause(STEP);
    }
    let (server, port, timeout) = ("Postgres", options.port, START_TIMEOUT);
    Err(ProvisionError::NotReady { server, port, timeout, last })
}

/// Whether the server wrote that it accepts connections, on the eighth line of its lock file. Asking
/// it before would only fill its log.
fn says_ready(dir: &Path) -> bool {
    const STATUS_LINE: usize = 7;
    std::fs::read_to_string(dir.join("postmaster.pid"))
        .is_ok_and(|text| text.lines().nth(STATUS_LINE).is_some_and(|s| s.starts_with("ready")))
}

fn same_dir(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Backends leave the process group of their server, so after its death they are found by the
/// directory they work in.
fn end_stragglers(dir: &Path) {
    const STEP: Duration = Duration::from_millis(5);
    let gone = || proc_table::below(dir).is_empty().then_some(());
    // They notice the death of their server by themselves, nearly always at once.
    if crate::wait_until(Duration::from_secs(1), STEP, gone).is_some() {
        return;
    }
    for process in proc_table::below(dir) {
        let _gone = kill(raw(process), Signal::SIGKILL);
    }
    crate::wait_until(Duration::from_secs(2), STEP, gone);
}

/// Removes a `postmaster.pid` whose server is gone.
///
/// Postgres takes the file for a live server's when any process has the id in it, also a zombie or
/// one that got the id later; we look closer.
///
/// # Errors
///
/// When the file is stale and cannot be removed.
pub fn clear_stale_lock(dir: &Path) -> Result<(), ProvisionError> {
    let path = dir.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&path) else {
        return Ok(());
    };
    let pid: Option<u32> = text.lines().next().and_then(|line| line.trim().parse().ok());
    let alive =
        pid.and_then(Identity::of).is_some_and(|process| proc_table::below(dir).contains(&process));
    if alive {
        return Ok(());
    }
    std::fs::remove_file(&path).map_err(ProvisionError::path("remove", &path))
}
