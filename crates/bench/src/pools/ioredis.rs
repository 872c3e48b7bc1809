//! ioredis with automatic pipelining, the peer that runs on Node.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::Mutex;

use crate::node::{self, PATIENCE};
use crate::side::{Figures, Side, Waits};

/// Starts it and keeps it, so that every round finds its code compiled.
///
/// # Errors
/// When Node is absent or its packages cannot be installed.
pub async fn side(url: &str, keys: u32, value_bytes: usize) -> anyhow::Result<Side> {
    let arguments = [url, &keys.to_string(), &value_bytes.to_string()].map(str::to_owned);
    let mut child = node::start("ioredis.mjs", &arguments).await?;
    let stdin = child.stdin.take().context("node has no input")?;
    let stdout = child.stdout.take().context("node has no output")?;
    let mut process = Process { stdin, lines: BufReader::new(stdout).lines(), _child: child };
    let hello = process.read(PATIENCE).await.context("start ioredis")?;
    let version = hello["version"].as_str().context("ioredis tells no version")?;
    let name = format!("ioredis {version} enableAutoPipelining");
    let process = Arc::new(Mutex::new(process));
    Ok(Side::new(name, move |tasks, duration| {
        let process = Arc::clone(&process);
        Box::pin(async move {
            let mut process = process.lock().await;
            process.round(tasks, duration).await
        })
    }))
}

struct Process {
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Process {
    async fn round(&mut self, tasks: usize, duration: Duration) -> anyhow::Result<Figures> {
        let request = format!("{tasks} {}\n", duration.as_millis());
        self.stdin.write_all(request.as_bytes()).await.context("write to node")?;
        let answer = self.read(duration + PATIENCE).await?;
        let number =
            |name: &str| answer[name].as_f64().with_context(|| format!("no {name} in {answer}"));
        Ok(Figures {
            throughput: number("throughput")?,
            waits: Some(Waits {
                p50_us: number("p50_us")?,
                p99_us: number("p99_us")?,
                p999_us: Some(number("p999_us")?),
                max_us: number("max_us")?,
            }),
            least_share: Some(number("least_share")?),
        })
    }

    async fn read(&mut self, timeout: Duration) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(timeout, self.lines.next_line())
            .await
            .context("node does not answer")?
            .context("read from node")?
            .context("node ended")?;
        serde_json::from_str(&line).with_context(|| format!("node printed {line:?}"))
    }
}
