//! A server under measurement: a child process and the processor time it used.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a server may take until its port answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Linux counts processor time in these units for user space, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, as `http://host:port`.
    pub endpoint: String,
    child: Child,
    pid: u32,
}

impl Server {
    /// Starts `program` and waits until `port` answers.
    ///
    /// # Errors
    /// When it cannot be started, or ends, or does not listen in time.
    pub async fn start(program: &str, port: u16, env: &[(&str, String)]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .envs(env.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {program}"))?;
        let pid = child.id().context("the server ended at once")?;
        let listening = async {
            let mut poll = tokio::time::interval(Duration::from_millis(20));
            loop {
                poll.tick().await;
                if let Some(status) = child.try_wait()? {
                    bail!("{program} ended before it listened: {status}");
                }
                if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                    return Ok(());
                }
            }
        };
        tokio::time::timeout(START_TIMEOUT, listening)
            .await
            .with_context(|| format!("{program} does not listen on port {port}"))??;
        Ok(Self { endpoint: format!("http://127.0.0.1:{port}"), child, pid })
    }

    /// Processor time used so far, user and system, in seconds; 10 ms resolution.
    ///
    /// # Errors
    /// When the process has ended or the machine has no `/proc`.
    pub fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The second field is the command in parentheses and may hold blanks: count after it.
        let (_, fields) = stat.rsplit_once(')').context("unexpected /proc/stat")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        // utime and stime are fields 14 and 15 of proc(5); the text behind ')' starts at 3.
        let ticks = |field: usize| -> anyhow::Result<f64> {
            Ok(fields.get(field - 3).context("short /proc/stat")?.parse::<f64>()?)
        };
        Ok((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND)
    }

    /// Stops the server.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A port that is free now.
///
/// # Errors
/// When none can be bound.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
