//! How long after the commit of a write two other replicas answer with it.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::cache::peers::Peer;
use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::Node;
use crate::cache::{Stage, Table, bound, compare_all, fill, keys, ms_since, percentile};
use crate::rounds::ROUNDS;

/// Writes of a round.
const WRITES: usize = 100;
/// What a write counts that is not seen by then, and how long it is waited for.
const UNSEEN: Duration = Duration::from_millis(250);
/// How long a reader rests before it asks again. One that asks all the time holds a processor that
/// the stores need, and what is measured is for how long; and the timer of a runtime counts
/// milliseconds, so each reader rests in a thread of its own.
const REST: Duration = Duration::from_micros(200);
/// Replicas: one writes, the others read.
const REPLICAS: usize = 3;
const BOUND_MS: f64 = 5.0;

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a call fails.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let mut sides = Vec::new();
    for peer in stage.peers.iter().filter(|peer| peer.bus.is_some()) {
        sides.push(Side::start(stage, peer).await?);
    }
    let what = "A write, seen on 2 other replicas";
    let mut tables: [Table; 3] = Default::default();
    for table in &mut tables {
        table.extend(sides.iter().map(|side| (side.name.clone(), Vec::new())));
    }
    for _ in 0..ROUNDS {
        for (index, side) in sides.iter().enumerate() {
            let times = side.round().await?;
            for (table, share) in tables.iter_mut().zip([0.5, 0.99, 1.0]) {
                table[index].1.push(percentile(&times, share));
            }
        }
    }
    for (name, table) in ["median", "p99", "longest"].into_iter().zip(&tables) {
        compare_all(&format!("{what}: {name}"), "ms", table, |_| None);
    }
    for (name, rounds) in &tables[1] {
        eprintln!("  {what}: p99 {rounds:.2?} ms  {name}");
    }
    if let Some((_, ours)) = tables[1].first() {
        bound(&format!("{what}: p99"), "ms", ours, BOUND_MS, false);
    }
    Ok(())
}

struct Side {
    name: String,
    site: crate::cache::replica::Site,
    nodes: Vec<Node>,
    keys: Vec<Key>,
}

impl Side {
    async fn start(stage: &Stage, peer: &Peer) -> anyhow::Result<Self> {
        let site = stage.site(peer, "visible", 10_000);
        let ids = fresh(WRITES);
        stage.truth.add(&ids, TEXT_BYTES).await?;
        let keys = keys(&site, &ids);
        let mut nodes = Vec::new();
        for _ in 0..REPLICAS {
            let node = peer.start(&site).await?;
            fill(&node, &keys).await?;
            nodes.push(node);
        }
        Ok(Self { name: peer.name.clone(), site, nodes, keys })
    }

    /// Sorted times from the commit until the last replica answered with the change.
    async fn round(&self) -> anyhow::Result<Vec<f64>> {
        let mut times = Vec::new();
        for key in &self.keys {
            for node in &self.nodes {
                node.get(key).await?;
            }
            let version = self.site.truth.write(key.id).await?;
            let committed = Instant::now();
            let readers: Vec<_> = self.nodes[1..]
                .iter()
                .map(|node| watch(node.clone(), key.clone(), version, committed))
                .collect();
            self.nodes[0].invalidate(key, version).await?;
            let mut last = 0.0_f64;
            for reader in readers {
                last = last.max(reader.await??);
            }
            times.push(last);
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

/// Reads until the version is answered; the milliseconds since the commit.
fn watch(
    node: Node,
    key: Key,
    version: i64,
    committed: Instant,
) -> JoinHandle<anyhow::Result<f64>> {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || {
        while committed.elapsed() < UNSEEN && runtime.block_on(node.get(&key))? < version {
            std::thread::sleep(REST);
        }
        Ok(ms_since(committed))
    })
}
