//! The races in which caches are known to go stale, hang or fall over, on every side.
//!
//! Each scenario runs on a real Redis and a real Postgres, and tells what came out in words.

use std::time::Duration;

use serde_json::json;

use crate::cache::Stage;
use crate::cache::peers::Peer;
use crate::cache::record::Key;
use crate::cache::replica::{Node, Site};
use crate::cache::server::Operator;
use crate::cache::setup::{HANGS_AFTER, proxied, read, rows, settle};
use crate::report::{Case, Goal};

mod brownout;
mod burst;
mod inflight;
pub mod killed;
mod own;
mod stampede;

/// Name of the bench.
pub const BENCH: &str = "cache-races";
/// After this long a replica that serves the old value goes on serving it, our bound being a
/// second: until its time to live is over.
const SETTLED: Duration = Duration::from_millis(1_500);

/// Runs all of them and prints a line for each side.
///
/// # Errors
/// When a store cannot be reached. What a side gets wrong is an outcome.
pub async fn measure(stage: &Stage, wants: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    for (name, what) in [
        ("remote", "Invalidated elsewhere while a load is under way"),
        ("wire", "Invalidated while the fill of L2 is on the wire"),
        ("own", "Own invalidation beside an own read of L2"),
        ("killed", "Writer killed between COMMIT and invalidation"),
        ("stampede", "Stampede whose leader is cancelled"),
        ("burst", "1,000 distinct misses at once"),
        ("brownout", "Redis stopped for 10 s (SIGSTOP)"),
    ] {
        if !wants(name) {
            continue;
        }
        for peer in stage.with_node() {
            let outcome = match name {
                "remote" => inflight::load(stage, peer).await,
                "wire" => inflight::fill(stage, peer).await,
                "own" => own::run(stage, peer).await,
                "killed" => killed::run(stage, peer).await,
                "stampede" => stampede::run(stage, peer).await,
                "burst" => burst::run(stage, peer).await,
                _ => brownout::run(stage, peer).await,
            };
            let outcome = outcome.unwrap_or_else(|error| format!("failed: {error:#}"));
            eprintln!("  {what}: {}: {outcome}", peer.name);
            print(what, &peer.name, &outcome);
        }
    }
    Ok(())
}

/// Reports a figure of ours against what it may be at most.
fn at_most(case: &str, unit: &'static str, figure: u64, most: u64) {
    let case = Case {
        bench: BENCH,
        case: case.to_owned(),
        peer: "the bound".to_owned(),
        unit,
        ours: vec![figure as f64],
        theirs: vec![most as f64],
        goal: Some(Goal::AtMost(1.0)),
    };
    println!("{}", case.json());
}

/// A count in words, marked when there may not be so many.
fn counted(count: u64, most: u64, what: &str) -> String {
    if count > most { format!("**{count} {what}**") } else { format!("{count} {what}") }
}

/// One line of the outcome table.
fn print(race: &str, side: &str, outcome: &str) {
    println!("{}", json!({ "bench": BENCH, "race": race, "side": side, "outcome": outcome }));
}

/// Replicas of one side that share everything but their memory.
async fn replicas(peer: &Peer, site: &Site, count: usize) -> anyhow::Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(peer.start(site).await?);
    }
    settle(&nodes, site).await?;
    Ok(nodes)
}

/// How many of the keys some replica answers with an older version, or not at all.
async fn stale(nodes: &[Node], written: &[(Key, i64)]) -> usize {
    let mut stale = 0;
    for (key, version) in written {
        let mut good = true;
        for node in nodes {
            good &= read(node, key).await.is_ok_and(|seen| seen >= *version);
        }
        stale += usize::from(!good);
    }
    stale
}

/// What is said of so many stale keys.
fn verdict(stale: usize, keys: usize) -> String {
    match stale {
        0 => format!("ok, 0 of {keys} stale"),
        some => format!("**stale, {some} of {keys}**"),
    }
}

/// An operator of the Redis of a stage.
async fn operator(stage: &Stage) -> anyhow::Result<Operator> {
    Operator::connect(&stage.redis_url).await
}
