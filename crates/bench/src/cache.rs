//! The two-level cache of the product against those that others write.

use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use uuid::Uuid;

use crate::cache::peers::Peer;
use crate::cache::record::Key;
use crate::cache::replica::{Node, Site};
use crate::cache::truth::Truth;
use crate::node;
use crate::report::{Case, Goal, absent};

pub mod batches;
pub mod burst;
pub mod cold;
pub mod faults;
pub mod hits;
pub mod levels;
pub mod memory;
pub mod peers;
pub mod proxy;
pub mod races;
pub mod readers;
pub mod record;
pub mod replica;
pub mod server;
pub mod setup;
pub mod skew;
pub mod storm;
pub mod tables;
pub mod truth;
pub mod visible;
pub mod zipf;

/// Name of the bench.
pub const BENCH: &str = "cache";
/// How long entries live where nothing is said about it: longer than the bench.
pub const TTL: std::time::Duration = std::time::Duration::from_secs(3600);
/// Reads under way at once while a cache is filled.
const FILL_TASKS: usize = 64;

/// What all scenarios work on.
pub struct Stage {
    /// Where Redis is.
    pub redis_url: String,
    /// The rows.
    pub truth: Truth,
    /// All sides that run in this process, ours first.
    pub peers: Vec<Peer>,
    /// The side that runs on Node, when that is there.
    pub node: Option<Peer>,
}

impl Stage {
    /// All sides that run in this process.
    pub fn new(redis_url: String, truth: Truth) -> Self {
        Self { redis_url, truth, peers: peers::all(), node: None }
    }

    /// Adds the side that runs on Node, or reports why it is not there.
    pub fn add_node(&mut self, bench: &str) {
        let peer = peers::on_node();
        match node::missing() {
            None => self.node = Some(peer),
            Some(reason) => println!("{}", absent(bench, "all", &peer.name, &reason)),
        }
    }

    /// All sides, that on Node included.
    pub fn with_node(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().chain(&self.node)
    }

    /// A site of one side in one scenario, with keys and counters of its own.
    pub fn site(&self, peer: &Peer, scenario: &str, l1_entries: u64) -> Site {
        Site {
            redis_url: self.redis_url.clone(),
            truth: self.truth.separate(),
            namespace: format!("{}-{scenario}", peer.short),
            l1_entries,
            ttl: TTL,
        }
    }
}

/// Reads every key once, so that the cache holds it.
///
/// # Errors
/// When a read fails.
pub async fn fill(node: &Node, keys: &[Key]) -> anyhow::Result<()> {
    let mut reads = stream::iter(keys).map(|key| node.get(key)).buffer_unordered(FILL_TASKS);
    while let Some(read) = reads.next().await {
        read?;
    }
    Ok(())
}

/// The keys of a site for rows.
pub fn keys(site: &Site, ids: &[Uuid]) -> Vec<Key> {
    ids.iter().map(|id| site.key(*id)).collect()
}

/// One figure of every round of every side, ours first.
pub type Table = Vec<(String, Vec<f64>)>;

/// Reports one figure of ours beside that of every other side.
pub fn compare_all(
    case: &str,
    unit: &'static str,
    table: &Table,
    goal: impl Fn(&str) -> Option<Goal>,
) {
    let Some((_, ours)) = table.first() else { return };
    for (peer, theirs) in table.iter().skip(1) {
        print(&Case {
            bench: BENCH,
            case: case.to_owned(),
            peer: peer.clone(),
            unit,
            ours: ours.clone(),
            theirs: theirs.clone(),
            goal: goal(peer),
        });
    }
}

/// Reports one figure of ours against a bound that does not depend on a peer.
pub fn bound(case: &str, unit: &'static str, figures: &[f64], bound: f64, more_is_better: bool) {
    print(&Case {
        bench: BENCH,
        case: case.to_owned(),
        peer: "the bound".to_owned(),
        unit,
        ours: figures.to_vec(),
        theirs: vec![bound; figures.len()],
        goal: Some(if more_is_better { Goal::AtLeast(1.0) } else { Goal::AtMost(1.0) }),
    });
}

fn print(case: &Case) {
    println!("{}", case.json());
}

/// A share of sorted times, in the unit they are in.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted.get(((sorted.len().max(1) - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

/// Milliseconds since an instant.
pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
