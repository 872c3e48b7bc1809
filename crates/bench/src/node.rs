//! Peers that run on Node: their packages, and the program that drives them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::process::{Child, Command};

/// How long Node may take to start, or to answer beyond the time it was asked to work.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long the packages may take to be installed.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);
/// What is installed.
const LOCK: &str = include_str!("../node/package-lock.json");

/// A package with its version as locked, such as `ioredis 5.11.1`.
///
/// # Panics
/// When the package is not in the lock file: then it is not a peer either.
pub fn version_of(package: &str) -> String {
    let lock: serde_json::Value = serde_json::from_str(LOCK).expect("a lock file is JSON");
    let version = &lock["packages"][format!("node_modules/{package}")]["version"];
    format!("{package} {}", version.as_str().expect("a peer is locked"))
}

/// Starts a script of the folder `node` with its standard input and output in our hands; it ends
/// with its value.
///
/// # Errors
/// When Node is absent or its packages cannot be installed.
pub async fn start(script: &str, arguments: &[String]) -> anyhow::Result<Child> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    let node = on_path("node").context("node is not on PATH")?;
    install(&dir).await?;
    Command::new(node)
        .arg(script)
        .args(arguments)
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start node")
}

/// Why nothing can be run on Node, if so.
pub fn missing() -> Option<String> {
    let missing = ["node", "npm"].into_iter().find(|program| on_path(program).is_none());
    missing.map(|program| format!("{program} is not on PATH"))
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
    eprintln!("  node: npm ci");
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

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn versions_come_from_the_lock() {
        for package in ["bentocache", "ioredis"] {
            let name = version_of(package);
            assert!(name.strip_prefix(package).is_some_and(|it| it.contains('.')), "{name}");
        }
    }
}
