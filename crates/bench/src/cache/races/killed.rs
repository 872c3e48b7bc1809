//! A writer commits and is killed before it can tell anybody.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio_postgres::NoTls;

use crate::cache::peers::Peer;
use crate::cache::races::{SETTLED, replicas, rows, stale, verdict};
use crate::cache::record::Key;
use crate::cache::{Stage, fill};

/// Keys that the writer changes in its transaction.
const ROWS: usize = 20;
/// How long the writer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The argument with which this program is the writer.
pub const WRITER: &str = "writer";

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-killed", 10_000);
    let nodes = replicas(peer, &site, 3).await?;
    let keys = rows(&site, ROWS).await?;
    for node in &nodes {
        fill(node, &keys).await?;
        fill(node, &keys).await?;
    }
    commit_and_die(site.truth.url(), &keys).await?;
    let mut written = Vec::new();
    for key in keys {
        let version = site.truth.load_one(key.id).await?.version;
        written.push((key, version));
    }
    tokio::time::sleep(SETTLED).await;
    Ok(verdict(stale(&nodes, &written).await, ROWS))
}

/// Starts the writer and kills it when it has committed.
async fn commit_and_die(url: &str, keys: &[Key]) -> anyhow::Result<()> {
    let ids = keys.iter().map(|key| key.id.to_string()).collect::<Vec<_>>().join(",");
    let mut child = Command::new(std::env::current_exe()?)
        .args([WRITER, &ids])
        .env("DATABASE_URL", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().context("the writer has no output")?;
    let said = tokio::time::timeout(PATIENCE, BufReader::new(stdout).lines().next_line()).await??;
    ensure!(said.as_deref() == Some("committed"), "the writer said {said:?}");
    // SIGKILL.
    child.kill().await?;
    Ok(())
}

/// The writer: commits a change of the rows in `ids`, says so, and never gets any further.
///
/// # Errors
/// When Postgres does not take the change.
pub async fn write_and_wait(url: &str, ids: &str) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let ids = ids.split(',').map(|id| format!("'{id}'")).collect::<Vec<_>>().join(",");
    client
        .batch_execute(&format!("UPDATE cache_bench SET text = text WHERE id IN ({ids})"))
        .await?;
    println!("committed");
    driver.await??;
    Ok(())
}
