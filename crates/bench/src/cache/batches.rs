//! A read of a hundred keys by where they are: its time, statements and round trips.
//!
//! A read moves keys to L1, so each batch is read once unless all of it is there, and the times are
//! of few batches. What it sends is counted on other batches, by a proxy that would cost time.

use crate::cache::peers::Peer;
use crate::cache::proxy::Proxy;
use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::{Node, Site};
use crate::cache::setup::{fill_l2, proxied, settle};
use crate::cache::tables::Tables;
use crate::cache::{Stage, fill, keys, percentile};
use crate::rounds::ROUNDS;

/// Keys of a batch.
const BATCH: usize = 100;
/// Batches of a round.
const BATCHES: usize = 10;
/// How often a round reads them when that moves nothing: as often as gives steady figures.
const PASSES: usize = 20;
/// Batches whose statements and round trips are counted.
const COUNTED: usize = 10;
/// Larger than all that is read.
const L1_ENTRIES: u64 = 40_000;

/// Where the keys of a batch are.
struct Place {
    what: &'static str,
    /// Keys of a batch that L1 holds; the others are in L2.
    in_l1: usize,
    /// Whether they are in any level.
    is_cached: bool,
}

const PLACES: [Place; 4] = [
    Place { what: "get_many of 100 keys, 100 % in L1", in_l1: BATCH, is_cached: true },
    Place { what: "get_many of 100 keys, 50 % in L1, 50 % in L2", in_l1: 50, is_cached: true },
    Place { what: "get_many of 100 keys, 0 % in L1, 100 % in L2", in_l1: 0, is_cached: true },
    Place { what: "get_many of 100 keys, in neither level", in_l1: 0, is_cached: false },
];

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up. A batch that fails is counted.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let ids: Vec<_> = PLACES.iter().map(|_| fresh((ROUNDS * BATCHES + COUNTED) * BATCH)).collect();
    for ids in &ids {
        stage.truth.add(ids, TEXT_BYTES).await?;
    }
    let mut sides = Vec::new();
    for peer in stage.with_node() {
        let site = stage.site(peer, "batches", L1_ENTRIES);
        let places = ids.iter().map(|ids| keys(&site, ids)).collect();
        sides.push(Side::start(peer, site, places).await?);
    }
    for (place, Place { what, .. }) in PLACES.iter().enumerate() {
        let columns = [
            ("median", "us"),
            ("longest", "us"),
            ("statements", "SQL/batch"),
            ("Redis round trips", "per batch"),
            ("failed", "batches"),
        ];
        let names = stage.with_node().map(|peer| peer.name.as_str());
        let mut tables = Tables::new(*what, columns, names);
        let mut counts = Vec::new();
        for side in &sides {
            counts.push(side.count(place).await);
        }
        for round in 0..ROUNDS {
            for turn in 0..sides.len() {
                let index = (round + turn) % sides.len();
                let (times, failed) = sides[index].round(place, round).await;
                let [statements, round_trips] = counts[index];
                let (median, longest) = (percentile(&times, 0.5), percentile(&times, 1.0));
                tables.push(index, [median, longest, statements, round_trips, failed as f64]);
            }
        }
        tables.report(|name, peer| tables.zero("failed", name, peer));
    }
    Ok(())
}

struct Side {
    site: Site,
    /// Timed; on Redis itself.
    direct: Node,
    /// Counted; through the proxy.
    through: Node,
    proxy: Proxy,
    /// The keys of every place: those of the rounds, then those that are counted.
    places: Vec<Vec<Key>>,
}

impl Side {
    async fn start(peer: &Peer, site: Site, places: Vec<Vec<Key>>) -> anyhow::Result<Self> {
        let cached = || PLACES.iter().zip(&places).filter(|(place, _)| place.is_cached);
        let in_l2: Vec<Key> = cached().flat_map(|(_, keys)| keys).cloned().collect();
        fill_l2(peer, &site, &in_l2).await?;
        let (proxy, behind) = proxied(&site).await?;
        let (direct, through) = (peer.start(&site).await?, peer.start(&behind).await?);
        settle(&[direct.clone(), through.clone()], &site).await?;
        for (place, keys) in cached() {
            let (timed, counted) = keys.split_at(ROUNDS * BATCHES * BATCH);
            for (node, keys) in [(&direct, timed), (&through, counted)] {
                let hot: Vec<Key> =
                    keys.chunks(BATCH).flat_map(|batch| &batch[..place.in_l1]).cloned().collect();
                // Some fill L1 at the second read.
                fill(node, &hot).await?;
                fill(node, &hot).await?;
            }
        }
        eprintln!("  {}: the batches are where they belong", peer.name);
        Ok(Self { site, direct, through, proxy, places })
    }

    /// Statements and round trips of a batch.
    async fn count(&self, place: usize) -> [f64; 2] {
        self.site.truth.take_counts();
        self.proxy.take_counts();
        for batch in self.places[place][ROUNDS * BATCHES * BATCH..].chunks(BATCH) {
            if let Err(error) = self.through.get_many(batch).await {
                eprintln!("  {}: a batch failed: {error:#}", self.site.namespace);
            }
        }
        let (statements, _) = self.site.truth.take_counts();
        let (_, round_trips) = self.proxy.take_counts();
        [statements, round_trips].map(|count| count as f64 / COUNTED as f64)
    }

    /// Sorted microseconds of the batches of a round, and how many failed.
    async fn round(&self, place: usize, round: usize) -> (Vec<f64>, usize) {
        let keys = &self.places[place][round * BATCHES * BATCH..][..BATCHES * BATCH];
        let passes = if PLACES[place].in_l1 == BATCH { PASSES } else { 1 };
        let (mut times, mut failed) = (Vec::new(), 0);
        for batch in std::iter::repeat_n(keys, passes).flat_map(|keys| keys.chunks(BATCH)) {
            match self.direct.time_many(batch).await {
                Ok(took) => times.push(took),
                Err(error) => {
                    failed += 1;
                    eprintln!("  {}: a batch failed: {error:#}", self.site.namespace);
                }
            }
        }
        times.sort_by(f64::total_cmp);
        (times, failed)
    }
}
