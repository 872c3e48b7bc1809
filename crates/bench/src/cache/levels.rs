//! Reads that L1 does not answer: one key from L2, and a hundred from wherever they are.

use std::sync::Arc;

use anyhow::ensure;
use forebay_redis::RedisPool;

use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::Node;
use crate::cache::{Stage, bound, compare_all, fill, keys};
use crate::pools::settings;
use crate::report::Goal;
use crate::rounds::{Rounds, Span, interleave_for};
use crate::side::{Figures, Side};

/// Keys in L2: many more than L1 holds.
const KEYS: usize = 20_000;
/// Entries that L1 holds: one read in a hundred finds its key there.
const L1_ENTRIES: u64 = 200;
/// Keys of a batch.
const BATCH: usize = 100;
/// The lane of our connection pool, without a cache.
const LANE: &str = "GET on one lane";
/// Rounds are short: what is measured takes microseconds.
const SPAN: Span = Span::millis(400);

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a read fails.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let ids = fresh(KEYS);
    stage.truth.add(&ids, TEXT_BYTES).await?;
    let (mut single, mut batch) = (Vec::new(), Vec::new());
    for peer in &stage.peers {
        let site = stage.site(peer, "levels", L1_ENTRIES);
        let node = peer.start(&site).await?;
        let keys: Arc<[Key]> = keys(&site, &ids).into();
        fill(&node, &keys).await?;
        single.push(one(&peer.name, &node, &keys));
        batch.push(many(&peer.name, &node, &keys));
        eprintln!("  {}: {KEYS} keys are in L2", peer.name);
    }
    single.push(lane(&stage.redis_url)?);
    batch.push(lane(&stage.redis_url)?);
    for tasks in [1, 64] {
        let what = format!("L2 hit of 300 B, {tasks} tasks");
        let all = interleave_for(&what, &mut single, tasks, SPAN).await?;
        report(&what, "reads/s", &all, |_, _| None);
        if let (64, Some(ours)) = (tasks, all.first()) {
            let throughput = ours.figure(|figures| Some(figures.throughput)).unwrap_or_default();
            bound(&format!("{what}: reads"), "1/s", &throughput, 300_000.0, true);
        }
    }
    let what = "get_many of 100 keys, all in L2";
    let all = interleave_for(what, &mut batch, 1, SPAN).await?;
    report(what, "batches/s", &all, |figure, peer| {
        (figure == "median" && peer == LANE).then_some(Goal::AtMost(3.0))
    });
    all_in_memory(stage).await
}

/// The same batch, with every key in L1.
async fn all_in_memory(stage: &Stage) -> anyhow::Result<()> {
    let ids = fresh(1_000);
    stage.truth.add(&ids, TEXT_BYTES).await?;
    let mut sides = Vec::new();
    for peer in &stage.peers {
        let site = stage.site(peer, "memory", 20_000);
        let node = peer.start(&site).await?;
        let keys: Arc<[Key]> = keys(&site, &ids).into();
        fill(&node, &keys).await?;
        fill(&node, &keys).await?;
        sides.push(many(&peer.name, &node, &keys));
    }
    let what = "get_many of 100 keys, all in L1";
    let all = interleave_for(what, &mut sides, 1, SPAN).await?;
    report(what, "batches/s", &all, |_, _| None);
    Ok(())
}

fn report(
    what: &str,
    unit: &'static str,
    all: &[Rounds],
    goal: impl Fn(&str, &str) -> Option<Goal>,
) {
    type Read = fn(&Figures) -> Option<f64>;
    let figures: [(&str, &'static str, Read); 3] = [
        ("throughput", unit, |figures| Some(figures.throughput)),
        ("median", "us", |figures| figures.waits.map(|waits| waits.p50_us)),
        ("p99", "us", |figures| figures.waits.map(|waits| waits.p99_us)),
    ];
    for (name, unit, read) in figures {
        let table = all
            .iter()
            .map(|side| (side.name.clone(), side.figure(read).unwrap_or_default()))
            .collect();
        compare_all(&format!("{what}: {name}"), unit, &table, |peer| goal(name, peer));
    }
}

fn one(name: &str, node: &Node, keys: &Arc<[Key]>) -> Side {
    let (node, keys) = (Arc::clone(node), Arc::clone(keys));
    Side::in_process(name, move |random| {
        let (node, keys) = (Arc::clone(&node), Arc::clone(&keys));
        async move { node.get(&keys[random as usize % keys.len()]).await.map(|_| ()) }
    })
}

fn many(name: &str, node: &Node, keys: &Arc<[Key]>) -> Side {
    let (node, keys) = (Arc::clone(node), Arc::clone(keys));
    Side::in_process(name, move |random| {
        let (node, keys) = (Arc::clone(&node), Arc::clone(&keys));
        async move {
            let first = random as usize % (keys.len() - BATCH + 1);
            let found = node.get_many(&keys[first..first + BATCH]).await?;
            ensure!(found.len() == BATCH, "{} of {BATCH} came", found.len());
            Ok(())
        }
    })
}

/// What a read of L2 cannot be faster than.
fn lane(url: &str) -> anyhow::Result<Side> {
    let flags = [format!("--redis.url={url}"), "--redis.key_prefix=lane:".to_owned()];
    let shared = RedisPool::new(&settings(&flags)?.redis)?.shared();
    Ok(Side::in_process(LANE, move |_| {
        let shared = shared.clone();
        async move {
            shared.get("absent").await?;
            Ok(())
        }
    }))
}
