//! A thousand keys that nobody has are wanted at once: the statements and round trips it takes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::cache::proxy::Proxy;
use crate::cache::replica::{Node, Site};
use crate::cache::setup::{proxied, read, rows, settle};
use crate::cache::tables::Tables;
use crate::cache::{Stage, bound, ms_since};

/// Keys.
pub const KEYS: usize = 1_000;
/// Statements that it may take, and round trips.
pub const BOUND: u64 = 8;
/// Fills may go on when everybody has an answer: for so long they are counted.
const FILLS: Duration = Duration::from_millis(300);
/// Bursts of each side; odd, so that a median is one that happened.
const ROUNDS: usize = 3;

/// What one burst did.
pub struct Outcome {
    /// Reads that were answered.
    pub answered: usize,
    /// Milliseconds until the last one was.
    pub took_ms: f64,
    /// Statements of the loader.
    pub statements: u64,
    /// Commands that Redis was sent.
    pub commands: u64,
    /// Their round trips, as the proxy counts them.
    pub round_trips: u64,
}

/// One burst on a replica that reaches Redis through the proxy.
///
/// # Errors
/// When Postgres does not take the rows. A read that fails is not answered.
pub async fn burst(node: &Node, site: &Site, proxy: &Proxy) -> anyhow::Result<Outcome> {
    let keys = rows(site, KEYS).await?;
    site.truth.take_counts();
    proxy.take_counts();
    let started = Instant::now();
    let reads = keys.into_iter().map(|key| {
        let node = node.clone();
        tokio::spawn(async move { read(&node, &key).await })
    });
    let answers = join_all(reads.collect::<Vec<_>>()).await;
    let took_ms = ms_since(started);
    tokio::time::sleep(FILLS).await;
    let answered = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    let (statements, _) = site.truth.take_counts();
    let (commands, round_trips) = proxy.take_counts();
    Ok(Outcome { answered, took_ms, statements, commands, round_trips })
}

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let mut sides = Vec::new();
    for peer in stage.with_node() {
        let site = stage.site(peer, "burst", 10_000);
        let (proxy, through) = proxied(&site).await?;
        let node = peer.start(&through).await?;
        settle(std::slice::from_ref(&node), &site).await?;
        sides.push((site, node, proxy));
    }
    let columns = [
        ("time", "ms"),
        ("statements", "SQL"),
        ("Redis commands", "commands"),
        ("Redis round trips", "round trips"),
        ("failed", "reads"),
    ];
    let names = stage.with_node().map(|peer| peer.name.as_str());
    let mut tables = Tables::new("1,000 distinct misses at once", columns, names);
    for round in 0..ROUNDS {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let (site, node, proxy) = &sides[index];
            let done = burst(node, site, proxy).await?;
            let figures = [done.statements, done.commands, done.round_trips].map(|it| it as f64);
            let [statements, commands, round_trips] = figures;
            let failed = (KEYS - done.answered) as f64;
            tables.push(index, [done.took_ms, statements, commands, round_trips, failed]);
        }
    }
    tables.report(|name, peer| tables.zero("failed", name, peer));
    for (name, unit) in [("statements", "SQL"), ("Redis round trips", "round trips")] {
        // The most of any round: a goal that is missed now and then is missed.
        let most = tables.ours(name).iter().copied().fold(0.0, f64::max);
        bound(&tables.case(name), unit, &[most], BOUND as f64, false);
    }
    Ok(())
}
