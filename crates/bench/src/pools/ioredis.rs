//! ioredis with automatic pipelining, the peer that runs on Node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::side::{Figures, Side, Waits};

/// How long Node may take to start, or to answer beyond the time of a round.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the packages may take to be installed.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Starts it and keeps it, so that every round finds its code compiled.
///
/// # Errors
/// When Node is absent or its packages cannot be installed.
pub async fn side(url: &str, keys: u32, value_bytes: usize) -> anyhow::Result<Side> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let node = on_path("node").context("node is not on PATH")?;
    install(&dir).await?;
    let mut child = Command::new(node)
        .arg("ioredis.mjs")
        .args([url, &keys.to_string(), &value_bytes.to_string()])
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start node")?;
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

/// Installs what the lock file names, once.
async fn install(dir: &Path) -> anyhow::Result<()> {
    // npm writes it last; one older than the lock file belongs to other versions.
    let installed = dir.join("node_modules/.package-lock.json");
    let changed = |path: &Path| std::fs::metadata(path)?.modified();
    let locked = changed(&dir.join("package-lock.json")).context("read package-lock.json")?;
    if changed(&installed).is_ok_and(|installed| installed >= locked) {
        return Ok(());
    }
    eprintln!("  ioredis: npm ci");
    let npm = on_path("npm").context("npm is not on PATH")?;
    let output = Command::new(npm)
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(INSTALL_TIMEOUT, output)
        .await
        .context("npm ci did not end")?
        .context("start npm")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    ensure!(output.status.success(), "npm ci failed: {last}");
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
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
