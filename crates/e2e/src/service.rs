//! One service binary as a child process.

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::{free_port, http_get};

/// How long a service may take until `/readyz` answers 200.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// A running service; dropping it kills it.
#[derive(Debug)]
pub struct ServiceProcess {
    /// Port of the gRPC server.
    pub grpc_port: u16,
    /// Port of `/livez`, `/readyz`, `/startupz` and `/metrics`.
    pub ops_port: u16,
    name: &'static str,
    child: Child,
}

impl ServiceProcess {
    /// Starts `name` with these environment variables on free ports; does not wait.
    ///
    /// # Errors
    /// When the binary is not built or cannot be started.
    pub fn spawn(name: &'static str, env: &[(&str, String)]) -> anyhow::Result<Self> {
        let (grpc_port, ops_port) = (free_port()?, free_port()?);
        let mut command = command(name, grpc_port, ops_port, env)?;
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { grpc_port, ops_port, name, child })
    }

    /// Runs `name` until it ends by itself; how it ended and what it wrote.
    ///
    /// # Errors
    /// When it cannot be started, or still runs after `timeout`.
    pub async fn run(
        name: &'static str,
        env: &[(&str, String)],
        timeout: Duration,
    ) -> anyhow::Result<Output> {
        let mut command = command(name, free_port()?, free_port()?, env)?;
        let ended = tokio::time::timeout(timeout, command.output()).await;
        ended.with_context(|| format!("{name} runs on"))?.with_context(|| format!("start {name}"))
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When the process ends first or takes longer than 30 s.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + READY_TIMEOUT;
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        loop {
            poll.tick().await;
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before it was ready: {status}", self.name);
            }
            match http_get(self.ops_port, "/readyz").await {
                Ok((200, _)) => return Ok(()),
                outcome if tokio::time::Instant::now() > deadline => {
                    bail!("{} is not ready after {READY_TIMEOUT:?}: {outcome:?}", self.name)
                }
                _ => {}
            }
        }
    }

    /// Asks the process to stop and waits for its end.
    ///
    /// # Errors
    /// When it is still there after `timeout`.
    pub async fn stop(&mut self, timeout: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let ended = tokio::time::timeout(timeout, self.child.wait()).await;
        Ok(ended.with_context(|| format!("{} runs on after SIGTERM", self.name))??)
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("send the signal")
    }

    /// Whether the process still runs.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn is_running(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

fn command(
    name: &str,
    grpc_port: u16,
    ops_port: u16,
    env: &[(&str, String)],
) -> anyhow::Result<Command> {
    let mut command = Command::new(binary(name)?);
    command
        .env_clear()
        .env("FOREBAY__GRPC__LISTEN", format!("127.0.0.1:{grpc_port}"))
        .env("FOREBAY__OPS__LISTEN", format!("127.0.0.1:{ops_port}"))
        // A test that fails shows what went wrong, not the thousand calls that went well.
        .env("FOREBAY__TELEMETRY__LOG_FILTER", "warn")
        .env("FOREBAY__GRPC__PAGE_TOKEN_KEY", "a page token key for tests, long enough")
        .envs(env.iter().map(|(key, value)| (*key, value.as_str())))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let dir = std::env::var_os("FOREBAY_TEST_BIN_DIR")
        .context("FOREBAY_TEST_BIN_DIR is not set: run `cargo xtask test`")?;
    let path = PathBuf::from(dir).join(format!("forebay-{name}"));
    if !path.exists() {
        bail!("{} is not built: run `cargo xtask test`", path.display());
    }
    Ok(path)
}
