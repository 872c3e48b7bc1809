//! The two-level cache: ours, those of others, and what it cannot be faster than.
//!
//! Run it by `cargo xtask bench cache`, which starts the stores and passes where they are:
//! `DATABASE_URL` (migrated) and `REDIS_URL`. To look into one scenario, name it: `cache hits`; and a
//! side, to run no other: `cache levels ours`.

use anyhow::Context as _;
use forebay_bench::cache::truth::Truth;
use forebay_bench::cache::{Stage, hits, levels, peers, storm, visible, zipf};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let postgres_url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL")?;
    let is_named = |name: &str| arguments.iter().any(|wanted| wanted == name);
    let mut peers = peers::all();
    if peers.iter().any(|peer| is_named(peer.short)) {
        peers.retain(|peer| is_named(peer.short));
    }
    let has_scenario =
        ["hits", "levels", "memory", "visible", "zipf", "storm"].iter().any(|name| is_named(name));
    let wants = |name: &str| !has_scenario || is_named(name);
    let truth = Truth::create(&postgres_url).await.context("the rows")?;
    let stage = Stage { redis_url, truth, peers };
    if wants("hits") {
        hits::measure(&stage).await.context("hits")?;
    }
    if wants("levels") {
        levels::measure(&stage).await.context("levels")?;
    }
    if wants("memory") {
        memory().await.context("memory")?;
    }
    if wants("visible") {
        visible::measure(&stage).await.context("visible")?;
    }
    if wants("zipf") {
        zipf::measure(&stage).await.context("zipf")?;
    }
    if wants("storm") {
        storm::measure(&stage).await.context("storm")?;
    }
    Ok(())
}

/// The figures that need an allocator of their own.
async fn memory() -> anyhow::Result<()> {
    let program = std::env::current_exe()?.with_file_name("cache-allocations");
    let status = tokio::process::Command::new(&program)
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("start {}", program.display()))?;
    anyhow::ensure!(status.success(), "{}: {status}", program.display());
    Ok(())
}
