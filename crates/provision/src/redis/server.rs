//! One Redis server on a loopback port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{RedisTools, command, info_field};
use crate::{
    Output, Process, ProvisionError, START_TIMEOUT, STOP_GRACE, StopSignal, Stopped, Stopwatch,
    command as helper, pause, ports,
};

/// How to run a server.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Directory for its files; created when missing.
    pub dir: PathBuf,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Settings as `name`, `value`, such as `("appendonly", "yes")`. Nothing is written to disk
    /// unless a setting asks for it.
    pub settings: Vec<(String, String)>,
    /// Where the log goes.
    pub output: Output,
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    tools: RedisTools,
    options: Options,
    process: Process,
}

impl Server {
    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::PortTaken`] when somebody else listens on the port, and what the server
    /// said when it died.
    pub fn start(tools: &RedisTools, options: Options) -> Result<Self, ProvisionError> {
        std::fs::create_dir_all(&options.dir)
            .map_err(ProvisionError::path("create", &options.dir))?;
        let dir = std::path::absolute(&options.dir)
            .map_err(ProvisionError::path("resolve", &options.dir))?;
        let options = Options { dir, ..options };
        let process = launch(tools, &options)?;
        Ok(Self { tools: tools.clone(), options, process })
    }

    /// `redis://` URL of this server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.options.port)
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

    /// Stops the server.
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

    /// Starts the server again on the same port and directory.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub fn restart(&mut self) -> Result<(), ProvisionError> {
        self.stop();
        self.process = launch(&self.tools, &self.options)?;
        Ok(())
    }
}

fn launch(tools: &RedisTools, options: &Options) -> Result<Process, ProvisionError> {
    if !ports::is_free(options.port) {
        return Err(ProvisionError::PortTaken { port: options.port });
    }
    let mut redis = tools.command();
    redis
        .args(["--bind", "127.0.0.1", "--port", &options.port.to_string()])
        .args(["--daemonize", "no", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(&options.dir)
        .current_dir(&options.dir);
    for (name, value) in &options.settings {
        redis.arg(format!("--{name}")).arg(value);
    }
    let process =
        Process::spawn(redis, StopSignal::Terminate, &options.output, Some(&options.dir))?;
    await_ready(&process, options)?;
    Ok(process)
}

/// How long a server may take to notice that its port is another's.
const LOSING: Duration = Duration::from_secs(2);

/// Waits until the server answers, and answers with the id of our process.
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
            let output = helper::joined(&tail);
            return Err(ProvisionError::Died { server: "Redis", status, output });
        }
        match answer(options.port) {
            Ok(Answer::Loading(reply)) => last = reply,
            Ok(Answer::Ready { pid }) if pid == process.pid().to_string() => return Ok(()),
            // Two servers were started on one port at once, and the other one got it: ours is about
            // to end for that reason.
            Ok(Answer::Ready { .. }) if process.wait(LOSING).is_some() => {
                return Err(ProvisionError::PortTaken { port: options.port });
            }
            Ok(Answer::Ready { pid }) => {
                let detail = format!("its process id is {pid}");
                return Err(ProvisionError::Foreign {
                    server: "Redis",
                    port: options.port,
                    detail,
                });
            }
            Err(error) => last = error.to_string(),
        }
        pause(STEP);
    }
    let (server, port, timeout) = ("Redis", options.port, START_TIMEOUT);
    Err(ProvisionError::NotReady { server, port, timeout, last })
}

enum Answer {
    Loading(String),
    Ready { pid: String },
}

/// What the server says. While it loads its file it answers INFO, but no command on its data.
fn answer(port: u16) -> std::io::Result<Answer> {
    let reply = command(port, &["PING"])?;
    if reply.starts_with('-') {
        return Ok(Answer::Loading(reply));
    }
    let info = command(port, &["INFO", "server"])?;
    Ok(Answer::Ready { pid: info_field(&info, "process_id").unwrap_or("unknown").to_owned() })
}
