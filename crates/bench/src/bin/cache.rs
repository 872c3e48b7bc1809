//! The two-level cache: ours, those of others, and what it cannot be faster than.
//!
//! Run it by `cargo xtask bench cache`, which starts the stores and passes where they are:
//! `DATABASE_URL` (migrated) and `REDIS_URL`. To look into one scenario, name it: `cache hits`; and a
//! side, to run no other: `cache levels ours`. `cache zipf --seconds 60` lets each side work longer.

use std::time::Instant;

use anyhow::Context as _;
use forebay_bench::cache::truth::Truth;
use forebay_bench::cache::{
    BENCH, Stage, batches, burst, cold, faults, hits, levels, storm, visible, zipf,
};

/// In the order in which they run. The rows of the last but one would be in the others' way.
const SCENARIOS: [&str; 10] =
    ["hits", "levels", "batches", "burst", "memory", "visible", "storm", "cold", "zipf", "faults"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let postgres_url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL")?;
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = take_seconds(&mut arguments)?;
    let is_named = |name: &str| arguments.iter().any(|wanted| wanted == name);
    let mut stage = Stage::new(redis_url, Truth::create(&postgres_url).await.context("the rows")?);
    stage.add_node(BENCH);
    let are_sides_named = stage.with_node().any(|peer| is_named(peer.short));
    stage.peers.retain(|peer| !are_sides_named || is_named(peer.short));
    stage.node = stage.node.filter(|peer| !are_sides_named || is_named(peer.short));
    let are_scenarios_named = SCENARIOS.into_iter().any(is_named);
    for name in SCENARIOS.into_iter().filter(|name| !are_scenarios_named || is_named(name)) {
        let started = Instant::now();
        run(name, &stage, seconds).await.context(name)?;
        eprintln!("  {name}: {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

async fn run(name: &str, stage: &Stage, seconds: u64) -> anyhow::Result<()> {
    match name {
        "hits" => hits::measure(stage).await,
        "levels" => levels::measure(stage).await,
        "batches" => batches::measure(stage).await,
        "burst" => burst::measure(stage).await,
        "memory" => memory().await,
        "visible" => visible::measure(stage).await,
        "storm" => storm::measure(stage).await,
        "cold" => cold::measure(stage).await,
        "zipf" => zipf::measure(stage, seconds).await,
        _ => faults::measure(stage).await,
    }
}

/// The value of `--seconds`, which is taken out.
fn take_seconds(arguments: &mut Vec<String>) -> anyhow::Result<u64> {
    let Some(flag) = arguments.iter().position(|argument| argument == "--seconds") else {
        return Ok(zipf::SECONDS);
    };
    anyhow::ensure!(flag + 1 < arguments.len(), "--seconds is followed by a number");
    let value = arguments.drain(flag..flag + 2).nth(1).unwrap_or_default();
    value.parse().with_context(|| format!("--seconds {value}"))
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
