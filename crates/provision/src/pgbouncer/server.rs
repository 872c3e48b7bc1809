//! One pgbouncer on a loopback port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::PgBouncerTools;
use crate::identity::{self, RunAs};
use crate::postgres::{WireError, query};
use crate::{
    Output, Process, ProvisionError, START_TIMEOUT, STOP_GRACE, Stopped, Stopwatch, command, pause,
    ports,
};

/// The database in which pgbouncer answers questions about itself.
const CONSOLE: &str = "pgbouncer";

/// How to run a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Directory for its files; created when missing.
    pub dir: PathBuf,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Port of the Postgres on 127.0.0.1, whose user is `postgres`, without a password. Every
    /// database of it can be reached by its own name.
    pub postgres_port: u16,
    /// Settings as `name`, `value`, such as `("pool_mode", "transaction")`.
    pub settings: Vec<(String, String)>,
    /// Where the log goes.
    pub output: Output,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    tools: PgBouncerTools,
    options: Options,
    user: Option<RunAs>,
    process: Process,
}

impl Server {
    /// Starts the server and waits until it answers; the Postgres behind it need not be there.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::PortTaken`] when somebody else listens on the port, and what the server
    /// said when it died.
    pub fn start(tools: &PgBouncerTools, options: Options) -> Result<Self, ProvisionError> {
        // It refuses to run as root, as Postgres does.
        let user = RunAs::for_servers();
        let dir = identity::reachable_dir(&options.dir, user.as_ref())?;
        let dir = std::path::absolute(&dir).map_err(ProvisionError::path("resolve", &dir))?;
        std::fs::create_dir_all(&dir).map_err(ProvisionError::path("create", &dir))?;
        let options = Options { dir, ..options };
        let process = launch(tools, &options, user.as_ref())?;
        Ok(Self { tools: tools.clone(), options, user, process })
    }

    /// `postgres://` URL of a database behind this server.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.options.port)
    }

    /// Port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// Directory of its files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Stops the server without waiting for its clients.
    pub fn stop(&self) -> Stopped {
        self.process.stop(STOP_GRACE)
    }

    /// Suspends the server: connections stay open and nothing answers.
    pub fn suspend(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Lets a suspended server go on.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Starts the server again on the same port.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<(), ProvisionError> {
        self.stop();
        self.process = launch(&self.tools, &self.options, self.user.as_ref())?;
        Ok(())
    }
}

fn launch(
    tools: &PgBouncerTools,
    options: &Options,
    user: Option<&RunAs>,
) -> Result<Process, ProvisionError> {
    if !ports::is_free(options.port) {
        return Err(ProvisionError::PortTaken { port: options.port });
    }
    let file = settings_file(&options.dir);
    std::fs::write(&file, settings(options)).map_err(ProvisionError::path("write", &file))?;
    let mut pgbouncer = tools.program.command();
    pgbouncer.arg(&file).current_dir(&options.dir);
    if let Some(user) = user {
        user.apply(&mut pgbouncer);
    }
    let process =
        Process::spawn(pgbouncer, tools.stop_signal, &options.output, Some(&options.dir))?;
    await_ready(&process, options)?;
    Ok(process)
}

fn settings_file(dir: &Path) -> PathBuf {
    dir.join("pgbouncer.ini")
}

/// Who comes in on loopback is let in as `postgres`, and may ask the console.
fn settings(options: &Options) -> String {
    let mut text = format!(
        "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\n[pgbouncer]\n\
         listen_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\nauth_type = any\n",
        options.postgres_port, options.port
    );
    for (name, value) in &options.settings {
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

/// How long a server may take to notice that its port is another's.
const LOSING: Duration = Duration::from_secs(2);

/// Waits until the console answers, and names our file as its settings.
fn await_ready(process: &Process, options: &Options) -> Result<(), ProvisionError> {
    const STEP: Duration = Duration::from_millis(5);
    let watch = Stopwatch::start();
    let mut last = String::from("no attempt was made");
    while watch.elapsed() < START_TIMEOUT {
        if let Some(status) = process.exit_status() {
            let tail = process.tail();
            if tail.iter().any(|line| line.contains("Address already in use")) {
                return Err(ProvisionError::PortTaken { port: options.port });
            }
            let output = command::joined(&tail);
            return Err(ProvisionError::Died { server: "pgbouncer", status, output });
        }
        match file_in_use(options.port) {
            Ok(file) if Path::new(&file) == settings_file(&options.dir) => return Ok(()),
            // Two servers were started on one port at once, and the other one got it: ours is about
            // to end for that reason.
            Ok(_) if process.wait(LOSING).is_some() => {
                return Err(ProvisionError::PortTaken { port: options.port });
            }
            Ok(file) => {
                let detail = format!("its settings are {file}");
                return Err(ProvisionError::Foreign {
                    server: "pgbouncer",
                    port: options.port,
                    detail,
                });
            }
            Err(error) => last = command::describe(&error),
        }
        pause(STEP);
    }
    let (server, port, timeout) = ("pgbouncer", options.port, START_TIMEOUT);
    Err(ProvisionError::NotReady { server, port, timeout, last })
}

fn file_in_use(port: u16) -> Result<String, WireError> {
    let rows = query(port, CONSOLE, "SHOW CONFIG")?;
    rows.into_iter()
        .find_map(|row| match <[Option<String>; 4]>::try_from(row) {
            Ok([Some(key), Some(value), ..]) if key == "conffile" => Some(value),
            _ => None,
        })
        .ok_or(WireError::Unexpected("a console that names no settings file"))
}
