//! A replica starts with an empty memory while L2 is full: what its first readers wait for.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use crate::cache::peers::Peer;
use crate::cache::peers::ours::Ours;
use crate::cache::record::Key;
use crate::cache::replica::{Node, Site};
use crate::cache::setup::{read, rows, settle};
use crate::cache::skew::{Random, Skew};
use crate::cache::tables::Tables;
use crate::cache::{Stage, fill, ms_since, percentile};

/// Keys in L2, all of which L1 could hold.
const KEYS: usize = 20_000;
/// Reads by which the replica before it knows what is read often.
const READS_BEFORE: usize = 100_000;
/// The first reads of the replica that starts, and the tasks that share them.
const READS: usize = 2_000;
const TASKS: usize = 16;
/// Starts of each side; odd, so that a median is one that happened.
const ROUNDS: usize = 5;

/// How a replica of a side starts.
enum Start<'a> {
    /// Ours, as a service does: it serves when it holds what is read often.
    Warm,
    /// Ours without that.
    Cold,
    /// As the side's documentation says.
    Other(&'a Peer),
}

impl Start<'_> {
    async fn start(&self, site: &Site) -> anyhow::Result<Node> {
        Ok(match self {
            Self::Warm => {
                let ours = Ours::start(site)?;
                ours.warm_up().await;
                Arc::new(ours)
            }
            Self::Cold => Arc::new(Ours::configured(site, &["--cache.warm_up_keys=0"])?),
            Self::Other(peer) => peer.start(site).await?,
        })
    }
}

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up. A first read that fails is counted.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let skew = Arc::new(Skew::zipf(KEYS));
    let mut sides: Vec<(String, Start<'_>, Site, Arc<[Key]>)> = Vec::new();
    for peer in &stage.peers {
        let site = stage.site(peer, "cold", KEYS as u64);
        let keys: Arc<[Key]> = rows(&site, KEYS).await?.into();
        if peer.is_ours() {
            let before = Ours::start(&site)?;
            let node: Node = Arc::new(before.clone());
            use_for_a_while(&node, &site, &keys, &skew).await?;
            anyhow::ensure!(before.end().await, "redis did not confirm that the replica ended");
            sides.push((peer.name.clone(), Start::Warm, site.clone(), Arc::clone(&keys)));
            sides.push((format!("{} without warm-up", peer.name), Start::Cold, site, keys));
        } else {
            use_for_a_while(&peer.start(&site).await?, &site, &keys, &skew).await?;
            sides.push((peer.name.clone(), Start::Other(peer), site, keys));
        }
        eprintln!("  {}: {KEYS} keys are in L2", peer.name);
    }
    let columns = [
        ("until it serves", "ms"),
        ("median of the first reads", "ms"),
        ("p99", "ms"),
        ("longest", "ms"),
        ("statements", "SQL"),
        ("failed", "reads"),
    ];
    let names = sides.iter().map(|(name, ..)| name.as_str());
    let mut tables = Tables::new("A replica starts, L2 is full, 2,000 reads", columns, names);
    for round in 0..ROUNDS {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let (_, start, site, keys) = &sides[index];
            tables.push(index, first_reads(start, site, keys, &skew).await?);
        }
    }
    tables.report(|name, peer| tables.zero("failed", name, peer));
    Ok(())
}

/// All keys get into L2, and some are read more often than others.
async fn use_for_a_while(
    node: &Node,
    site: &Site,
    keys: &[Key],
    skew: &Skew,
) -> anyhow::Result<()> {
    settle(std::slice::from_ref(node), site).await?;
    fill(node, keys).await?;
    let mut random = Random::new(0);
    let wanted: Vec<Key> =
        (0..READS_BEFORE).map(|_| keys[skew.rank(random.draw())].clone()).collect();
    fill(node, &wanted).await
}

async fn first_reads(
    start: &Start<'_>,
    site: &Site,
    keys: &Arc<[Key]>,
    skew: &Arc<Skew>,
) -> anyhow::Result<[f64; 6]> {
    site.truth.take_counts();
    let began = Instant::now();
    let node = start.start(site).await?;
    let serves = ms_since(began);
    let tasks = (0..TASKS as u64).map(|task| {
        let (node, keys, skew) = (Arc::clone(&node), Arc::clone(keys), Arc::clone(skew));
        tokio::spawn(async move {
            let mut random = Random::new(task + 1);
            let mut seen = Vec::new();
            for _ in 0..READS / TASKS {
                let asked = Instant::now();
                let answer = read(&node, &keys[skew.rank(random.draw())]).await;
                seen.push((ms_since(asked), answer.is_err()));
            }
            seen
        })
    });
    let (mut times, mut failed) = (Vec::new(), 0);
    for seen in join_all(tasks.collect::<Vec<_>>()).await {
        for (took, is_failed) in seen? {
            times.push(took);
            failed += usize::from(is_failed);
        }
    }
    times.sort_by(f64::total_cmp);
    let (statements, _) = site.truth.take_counts();
    let [median, p99, longest] = [0.5, 0.99, 1.0].map(|share| percentile(&times, share));
    Ok([serves, median, p99, longest, statements as f64, failed as f64])
}
