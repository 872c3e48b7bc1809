//! Three replicas under reads and writes of a million keys of which few are wanted often.
//!
//! All sides use the same rows, but each has its most wanted keys elsewhere among them, so that one
//! side hardly ever changes what another one holds.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::cache::peers::Peer;
use crate::cache::record::{Key, Range, TEXT_BYTES};
use crate::cache::replica::{Node, Site};
use crate::cache::setup::settle;
use crate::cache::skew::{Random, Skew};
use crate::cache::tables::Tables;
use crate::cache::{Stage, fill, ms_since};
use crate::report::{Goal, median};
use crate::rounds::ROUNDS;

/// Keys, and how many of them one replica's memory holds.
const KEYS: usize = 1_000_000;
const L1_ENTRIES: u64 = 50_000;
/// Keys that are in L2 before the first round, the most wanted.
const HOT: usize = 20_000;
const REPLICAS: usize = 3;
/// Tasks of a replica.
const TASKS: usize = 16;
/// One operation in so many is a write.
const WRITE_EVERY: u64 = 20;
/// How long each side works, when nothing else is asked for.
pub const SECONDS: u64 = 10;
/// How old an answer may be.
const BOUND: Duration = Duration::from_secs(1);

/// Measures and reports; each side works for so many seconds in all its rounds.
///
/// # Errors
/// When a side cannot be set up. An operation that fails is counted.
pub async fn measure(stage: &Stage, seconds: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let rows = Range::fresh(KEYS);
    stage.truth.add_range(rows, TEXT_BYTES).await?;
    eprintln!("  {KEYS} rows in {:.0} ms", ms_since(started));
    let skew = Arc::new(Skew::zipf(KEYS));
    let mut sides = Vec::new();
    for (index, peer) in stage.peers.iter().enumerate() {
        let first = index * KEYS / stage.peers.len();
        sides.push(Side::start(stage, peer, Keys { rows, first, skew: Arc::clone(&skew) }).await?);
        eprintln!("  {}: the {HOT} most wanted keys are in L2", peer.name);
    }
    let columns = [
        ("throughput", "ops/s"),
        ("answers from a cache", "share"),
        ("loads", "SQL/s"),
        ("stale beyond 1 s", "reads"),
        ("failed", "ops"),
    ];
    let what = "zipf(0.99) over 1,000,000 keys, 95 % reads, 3 replicas";
    let names = stage.peers.iter().map(|peer| peer.name.as_str());
    let mut tables = Tables::new(what, columns, names);
    let round = Duration::from_millis(seconds * 1_000 / ROUNDS as u64);
    for side in &sides {
        side.round(round / 4).await?;
    }
    for number in 0..ROUNDS {
        for turn in 0..sides.len() {
            let index = (number + turn) % sides.len();
            tables.push(index, sides[index].round(round).await?);
        }
    }
    let peers = tables.table("throughput").iter().skip(1);
    let best = peers.max_by(|(_, a), (_, b)| median(a.clone()).total_cmp(&median(b.clone())));
    let best = best.map(|(name, _)| name.as_str());
    tables.report(|name, peer| match name {
        "throughput" if Some(peer) == best => Some(Goal::AtLeast(1.0)),
        _ => tables
            .zero("stale beyond 1 s", name, peer)
            .or_else(|| tables.zero("failed", name, peer)),
    });
    Ok(())
}

/// The keys of one side.
struct Keys {
    rows: Range,
    /// The most wanted key among the rows; the others follow it.
    first: usize,
    skew: Arc<Skew>,
}

impl Keys {
    fn key(&self, site: &Site, rank: usize) -> Key {
        site.key(self.rows.id((self.first + rank) % KEYS))
    }
}

/// The newest versions of a row, each with when it was committed.
type History = VecDeque<(Instant, i64)>;
/// Those of the rows that were written; a few locks, so that nobody waits for another's.
type Histories = [Mutex<HashMap<usize, History>>; 64];

struct Side {
    site: Site,
    nodes: Vec<Node>,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Keys,
    histories: Histories,
    /// Of the next task: one that began as another did would find its keys read.
    seed: AtomicU64,
    operations: AtomicU64,
    reads: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
}

impl Side {
    async fn start(stage: &Stage, peer: &Peer, keys: Keys) -> anyhow::Result<Self> {
        let site = stage.site(peer, "zipf", L1_ENTRIES);
        let mut nodes = Vec::new();
        for _ in 0..REPLICAS {
            nodes.push(peer.start(&site).await?);
        }
        settle(&nodes, &site).await?;
        let hot: Vec<_> = (0..HOT).map(|rank| keys.key(&site, rank)).collect();
        fill(&nodes[0], &hot).await?;
        let shared = Shared {
            keys,
            histories: std::array::from_fn(|_| Mutex::default()),
            seed: AtomicU64::new(0),
            operations: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        };
        Ok(Self { site, nodes, shared: Arc::new(shared) })
    }

    /// Operations a second, the share of reads whose key was not loaded, loads a second, stale reads,
    /// operations that failed.
    async fn round(&self, duration: Duration) -> anyhow::Result<[f64; 5]> {
        self.site.truth.take_counts();
        self.site.truth.take_loaded();
        let started = Instant::now();
        let tasks = (0..REPLICAS * TASKS).map(|task| {
            let node = self.nodes[task % REPLICAS].clone();
            let (site, shared) = (self.site.clone(), Arc::clone(&self.shared));
            let mut random = Random::new(shared.seed.fetch_add(1, Ordering::Relaxed));
            async move {
                let work = async move {
                    while started.elapsed() < duration {
                        operate(&node, &site, &shared, random.draw()).await;
                    }
                };
                tokio::spawn(work).await
            }
        });
        try_join_all(tasks).await?;
        let seconds = started.elapsed().as_secs_f64();
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed) as f64;
        let shared = &self.shared;
        let (operations, reads) = (take(&shared.operations), take(&shared.reads));
        let (loaded, (statements, _)) =
            (self.site.truth.take_loaded(), self.site.truth.take_counts());
        let hits = (1.0 - loaded as f64 / reads).max(0.0);
        let (stale, failed) = (take(&shared.stale), take(&shared.failed));
        Ok([operations / seconds, hits, statements as f64 / seconds, stale, failed])
    }
}

/// One operation. One that fails is counted, and not among those that were done.
async fn operate(node: &Node, site: &Site, shared: &Shared, random: u64) {
    let rank = shared.keys.skew.rank(random);
    let key = shared.keys.key(site, rank);
    let history = &shared.histories[rank % shared.histories.len()];
    let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
    let done = if random.is_multiple_of(WRITE_EVERY) {
        write(node, site, &key, |version| {
            remember(history.lock().expect("nobody panics").entry(rank).or_default(), version);
        })
        .await
    } else {
        let asked = Instant::now();
        node.get(&key).await.map(|seen| {
            count(&shared.reads);
            let histories = history.lock().expect("nobody panics");
            if histories.get(&rank).is_some_and(|history| is_stale(history, asked, seen)) {
                count(&shared.stale);
            }
        })
    };
    match done {
        Ok(()) => count(&shared.operations),
        Err(_) => count(&shared.failed),
    };
}

async fn write(
    node: &Node,
    site: &Site,
    key: &Key,
    committed: impl FnOnce(i64),
) -> anyhow::Result<()> {
    let version = site.truth.write(key.id).await?;
    committed(version);
    node.invalidate(key, version).await
}

/// Keeps what a read that begins now may still have to contain.
fn remember(history: &mut History, version: i64) {
    let now = Instant::now();
    // Two writers may come here in another order than they committed in.
    let newest = history.back().map_or(version, |(_, newest)| version.max(*newest));
    history.push_back((now, newest));
    while history.len() > 1 && history[1].0 + 2 * BOUND < now {
        history.pop_front();
    }
}

/// Whether a read that began at `asked` misses a change that was committed longer ago than the
/// bound.
fn is_stale(history: &History, asked: Instant, seen: i64) -> bool {
    let required = history.iter().rev().find(|(committed, _)| *committed + BOUND <= asked);
    required.is_some_and(|(_, version)| seen < *version)
}
