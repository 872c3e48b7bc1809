//! Three replicas under reads and writes of keys of which few are wanted often.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::cache::peers::Peer;
use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::{Node, Site};
use crate::cache::{Stage, Table, compare_all, fill, keys};
use crate::report::Goal;

/// Keys, and how many of them one replica's memory holds.
const KEYS: usize = 20_000;
const L1_ENTRIES: u64 = 20_000;
const REPLICAS: usize = 3;
/// Tasks of a replica.
const TASKS: usize = 16;
/// One operation in so many is a write.
const WRITE_EVERY: u64 = 20;
/// The exponent of the distribution, as YCSB has it.
const EXPONENT: f64 = 0.99;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(2_000);
/// How old an answer may be.
const BOUND: Duration = Duration::from_secs(1);

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a call fails.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let mut sides = Vec::new();
    for peer in &stage.peers {
        sides.push(Side::start(stage, peer).await?);
    }
    let what = "zipf(0.99), 95 % reads, 3 replicas";
    let mut tables: [Table; 4] = Default::default();
    for table in &mut tables {
        table.extend(sides.iter().map(|side| (side.name.clone(), Vec::new())));
    }
    for round in 0..ROUNDS {
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            let figures = sides[index].round().await?;
            for (table, figure) in tables.iter_mut().zip(figures) {
                table[index].1.push(figure);
            }
        }
    }
    let names = [
        ("throughput", "ops/s"),
        ("answers from a cache", "share"),
        ("loads", "SQL/s"),
        ("stale beyond 1 s", "reads"),
    ];
    let first_peer = sides.get(1).map(|side| side.name.as_str());
    for ((name, unit), table) in names.into_iter().zip(&tables) {
        compare_all(&format!("{what}: {name}"), unit, table, |peer| match name {
            "stale beyond 1 s" if Some(peer) == first_peer => Some(Goal::Zero),
            _ => None,
        });
        for (side, rounds) in table {
            eprintln!("  {what}: {name} {rounds:.3?}  {side}");
        }
    }
    Ok(())
}

/// The newest versions of a row, each with when it was committed.
type History = Mutex<VecDeque<(Instant, i64)>>;

struct Side {
    name: String,
    site: Site,
    nodes: Vec<Node>,
    shared: Arc<Shared>,
}

struct Shared {
    keys: Vec<Key>,
    histories: Vec<History>,
    /// For every key the share of operations that want it or one before it.
    cumulative: Vec<f64>,
    operations: AtomicU64,
    reads: AtomicU64,
    stale: AtomicU64,
}

impl Side {
    async fn start(stage: &Stage, peer: &Peer) -> anyhow::Result<Self> {
        let site = stage.site(peer, "zipf", L1_ENTRIES);
        let ids = fresh(KEYS);
        stage.truth.add(&ids, TEXT_BYTES).await?;
        let keys = keys(&site, &ids);
        let mut nodes = Vec::new();
        for _ in 0..REPLICAS {
            nodes.push(peer.start(&site).await?);
        }
        fill(&nodes[0], &keys[..KEYS / 4]).await?;
        let weights = (1..=KEYS).map(|rank| (rank as f64).powf(-EXPONENT));
        let total: f64 = weights.clone().sum();
        let cumulative = weights
            .scan(0.0, |sum, weight| {
                *sum += weight / total;
                Some(*sum)
            })
            .collect();
        let histories = (0..KEYS).map(|_| History::default()).collect();
        let shared = Shared {
            keys,
            histories,
            cumulative,
            operations: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            stale: AtomicU64::new(0),
        };
        Ok(Self { name: peer.name.clone(), site, nodes, shared: Arc::new(shared) })
    }

    /// Operations a second, the share of reads that no load answered, loads a second, stale reads.
    async fn round(&self) -> anyhow::Result<[f64; 4]> {
        self.site.truth.take_counts();
        let started = Instant::now();
        let tasks = (0..REPLICAS * TASKS).map(|task| {
            let node = self.nodes[task % REPLICAS].clone();
            let (site, shared) = (self.site.clone(), Arc::clone(&self.shared));
            let seed = task as u64 + 1;
            async move { tokio::spawn(work(node, site, shared, seed, started)).await? }
        });
        try_join_all(tasks).await?;
        let seconds = started.elapsed().as_secs_f64();
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed) as f64;
        let shared = &self.shared;
        let (operations, reads) = (take(&shared.operations), take(&shared.reads));
        let (loads, _) = self.site.truth.take_counts();
        let loads = loads as f64;
        let hits = (1.0 - loads / reads).max(0.0);
        Ok([operations / seconds, hits, loads / seconds, take(&shared.stale)])
    }
}

async fn work(
    node: Node,
    site: Site,
    shared: Arc<Shared>,
    seed: u64,
    started: Instant,
) -> anyhow::Result<()> {
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    while started.elapsed() < ROUND {
        // Xorshift (Marsaglia, 2003): spreads the keys, costs nothing.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        let index = shared.cumulative.partition_point(|sum| *sum < share).min(KEYS - 1);
        let (key, history) = (&shared.keys[index], &shared.histories[index]);
        if random.is_multiple_of(WRITE_EVERY) {
            let version = site.truth.write(key.id).await?;
            remember(history, version);
            node.invalidate(key, version).await?;
        } else {
            let asked = Instant::now();
            let seen = node.get(key).await?;
            shared.reads.fetch_add(1, Ordering::Relaxed);
            if is_stale(history, asked, seen) {
                shared.stale.fetch_add(1, Ordering::Relaxed);
            }
        }
        shared.operations.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Keeps what a read that begins now may still have to contain.
fn remember(history: &History, version: i64) {
    let now = Instant::now();
    let mut history = history.lock().expect("nobody panics");
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
    let history = history.lock().expect("nobody panics");
    let required = history.iter().rev().find(|(committed, _)| *committed + BOUND <= asked);
    required.is_some_and(|(_, version)| seen < *version)
}
