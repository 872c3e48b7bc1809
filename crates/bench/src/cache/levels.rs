//! Reads that L2 answers: of one key, and of a hundred.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use forebay_cache::Entity as _;
use forebay_redis::{RedisPool, SharedRedis};
use redis::AsyncCommands as _;
use uuid::Uuid;

use crate::cache::peers::bentocache::Bentocache;
use crate::cache::peers::ours::Records;
use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::Node;
use crate::cache::setup::settle;
use crate::cache::{Stage, bound, compare_all, fill, keys};
use crate::pools::settings;
use crate::report::Goal;
use crate::rounds::{Rounds, Span, interleave_for};
use crate::side::{Figures, Side};
use crate::versions;

/// Keys in L2: many more than L1 holds.
const KEYS: usize = 20_000;
/// Entries that L1 holds: one read in a hundred finds its key there.
const L1_ENTRIES: u64 = 200;
/// Keys of a batch.
const BATCH: usize = 100;
/// The lane of our connection pool, without a cache: what is stored is read and not looked at.
const LANE: &str = "GET on one lane";
/// All keys of a batch in one command of it.
const LANE_MANY: &str = "MGET on one lane";
/// Rounds are short: what is measured takes microseconds.
const SPAN: Span = Span::millis(300);

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
        // One that does not trust L2 yet would not fill it.
        settle(std::slice::from_ref(&node), &site).await?;
        let keys: Arc<[Key]> = keys(&site, &ids).into();
        fill(&node, &keys).await?;
        single.push(one(&peer.name, &node, &keys));
        batch.push(many(&peer.name, &node, &keys));
        eprintln!("  {}: {KEYS} keys are in L2", peer.name);
    }
    if let Some(peer) = &stage.node {
        let site = stage.site(peer, "levels", L1_ENTRIES);
        let cache = Bentocache::start(&site).await?;
        let keys: Arc<[Key]> = keys(&site, &ids).into();
        fill(&(Arc::new(cache.clone()) as Node), &keys).await?;
        single.push(cache.side(&peer.name, keys));
    }
    if let Some(ours) = stage.peers.iter().find(|peer| peer.is_ours()) {
        let namespace = stage.site(ours, "levels", L1_ENTRIES).namespace;
        let entries = stored(&stage.redis_url, &namespace, &ids).await?;
        single.push(lane(&stage.redis_url, &entries)?);
        single.push(driver(&stage.redis_url, &entries).await?);
        batch.push(lane(&stage.redis_url, &entries)?);
        batch.push(lane_many(&stage.redis_url, &entries)?);
    }
    for tasks in [1, 64] {
        let what = format!("L2 hit of 300 B, {tasks} tasks");
        let all = interleave_for(&what, &mut single, tasks, SPAN).await?;
        report(&what, "reads/s", &all, |_, _| None);
        if let (64, Some(ours)) = (tasks, all.first()) {
            let throughput = ours.figure(|figures| Some(figures.throughput)).unwrap_or_default();
            bound(&format!("{what}: reads"), "1/s", &throughput, 300_000.0, true);
        }
    }
    let what = "get_many of 100 keys, again and again, all in L2";
    let all = interleave_for(what, &mut batch, 1, SPAN).await?;
    report(what, "batches/s", &all, |figure, peer| {
        (figure == "median" && peer == LANE).then_some(Goal::AtMost(3.0))
    });
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
fn lane(url: &str, entries: &Arc<[String]>) -> anyhow::Result<Side> {
    let (shared, entries) = (shared(url)?, Arc::clone(entries));
    Ok(Side::in_process(LANE, move |random| {
        let (shared, entries) = (shared.clone(), Arc::clone(&entries));
        async move {
            let found = shared.get(&entries[random as usize % entries.len()]).await?;
            ensure!(found.is_some(), "an entry is not there");
            Ok(())
        }
    }))
}

/// What a batch cannot be faster than.
fn lane_many(url: &str, entries: &Arc<[String]>) -> anyhow::Result<Side> {
    let (shared, entries) = (shared(url)?, Arc::clone(entries));
    Ok(Side::in_process(LANE_MANY, move |random| {
        let (shared, entries) = (shared.clone(), Arc::clone(&entries));
        async move {
            let first = random as usize % (entries.len() - BATCH + 1);
            let found = shared.mget(&entries[first..first + BATCH]).await?;
            ensure!(found.iter().all(Option::is_some), "an entry is not there");
            Ok(())
        }
    }))
}

/// The driver's own connection that callers share.
async fn driver(url: &str, entries: &Arc<[String]>) -> anyhow::Result<Side> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let name = format!("GET by {}", versions::of("redis"));
    let entries = Arc::clone(entries);
    Ok(Side::in_process(name, move |random| {
        let (mut connection, entries) = (connection.clone(), Arc::clone(&entries));
        async move {
            let found: Option<Bytes> =
                connection.get(&entries[random as usize % entries.len()]).await?;
            ensure!(found.is_some(), "an entry is not there");
            Ok(())
        }
    }))
}

fn shared(url: &str) -> anyhow::Result<SharedRedis> {
    let flags = [format!("--redis.url={url}"), "--redis.key_prefix=".to_owned()];
    Ok(RedisPool::new(&settings(&flags)?.redis)?.shared())
}

/// The names of our entries in Redis. What was read before Redis was in use is not there.
async fn stored(url: &str, namespace: &str, ids: &[Uuid]) -> anyhow::Result<Arc<[String]>> {
    let shared = shared(url)?;
    let name = |id: &Uuid| format!("{namespace}:cache:{}:{}:{id}", Records::NAME, Records::SCHEMA);
    let mut stored = Vec::with_capacity(ids.len());
    for ids in ids.chunks(BATCH) {
        let names: Vec<_> = ids.iter().map(name).collect();
        let found = shared.mget(&names).await?;
        let both = names.into_iter().zip(found);
        stored.extend(both.filter_map(|(name, found)| found.map(|_| name)));
    }
    ensure!(stored.len() > ids.len() / 2, "{} of {} entries are in Redis", stored.len(), ids.len());
    Ok(stored.into())
}
