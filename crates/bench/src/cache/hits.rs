//! Hits in L1: the time of one, alone and on two threads, and of one that becomes reply bytes.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;
use uuid::Uuid;

use crate::cache::peers::amalgam::Amalgam;
use crate::cache::peers::bentocache::Bentocache;
use crate::cache::peers::hitbox::Hitbox;
use crate::cache::peers::multi_tier::MultiTier;
use crate::cache::peers::ours::Ours;
use crate::cache::peers::{self, Peer};
use crate::cache::record::{Key, Record, TEXT_BYTES, fresh};
use crate::cache::replica::{Replica, Site};
use crate::cache::{Stage, Table, compare_all, fill, keys};
use crate::report::{Goal, median};
use crate::rounds::ROUNDS;
use crate::side::Boxed;
use crate::versions;

/// Keys, all of them in L1.
const KEYS: usize = 1_000;
/// How long one side runs in one round.
const ROUND: Duration = Duration::from_millis(150);
/// Reads between two looks at the clock.
const BATCH: usize = 500;
/// What tonic's encoder reserves for a message (`DEFAULT_CODEC_BUFFER_SIZE`).
const REPLY_BUFFER: usize = 8 * 1024;
/// A size beside the usual one.
const LARGE_TEXT_BYTES: usize = 8 * 1024;

/// Runs one round on so many threads for about that time; nanoseconds of a read.
type Run = Box<dyn Fn(usize, Duration) -> Boxed<'static, anyhow::Result<f64>> + Send>;
/// The sides of one comparison.
type Sides = Vec<(String, Run)>;

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a read fails.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let usual = Contestants::start(stage, "hits", TEXT_BYTES).await?;
    let mut alone = usual.hits(KEYS);
    if let Some(peer) = &stage.node {
        alone.push(on_node(stage, peer).await?);
    }
    report_hits("L1 hit of 300 B, 1 thread", &alone, 1).await?;
    report_hits("L1 hit of 300 B, 2 threads", &usual.hits(KEYS), 2).await?;
    report_hits("L1 hit of 300 B, 2 threads, the same key", &usual.hits(1), 2).await?;
    let what = "L1 hit of 300 B to reply bytes";
    let mut replies = run(&usual.replies(), 1, what).await?;
    for rounds in replies.iter_mut().map(|(_, rounds)| rounds) {
        rounds.iter_mut().for_each(|ns| *ns = 1e9 / *ns);
    }
    compare_all(&format!("{what}: replies"), "1/s", &replies, |peer| {
        (peer.starts_with("amalgam") && !peer.contains("strict")).then_some(Goal::AtLeast(2.0))
    });
    let large = Contestants::start(stage, "large", LARGE_TEXT_BYTES).await?;
    report_hits("L1 hit of 8 KiB, 1 thread", &large.hits(KEYS), 1).await
}

/// The side on Node, which has one thread and takes the time itself.
async fn on_node(stage: &Stage, peer: &Peer) -> anyhow::Result<(String, Run)> {
    let site = stage.site(peer, "hits", 20_000);
    let ids = fresh(KEYS);
    stage.truth.add(&ids, TEXT_BYTES).await?;
    let (cache, keys) = warm(Bentocache::start(&site).await?, &site, &ids).await?;
    let run = move |_: usize, duration: Duration| -> Boxed<'static, anyhow::Result<f64>> {
        let (cache, keys) = (cache.clone(), Arc::clone(&keys));
        Box::pin(async move { Ok(1e9 / cache.run(&keys, 1, duration).await?.throughput) })
    };
    Ok((peer.name.clone(), Box::new(run)))
}

async fn report_hits(what: &str, sides: &Sides, threads: usize) -> anyhow::Result<()> {
    let table = run(sides, threads, what).await?;
    compare_all(&format!("{what}: time"), "ns", &table, |peer| {
        peer.ends_with("sync::Cache").then_some(Goal::AtMost(1.15))
    });
    Ok(())
}

async fn run(sides: &Sides, threads: usize, what: &str) -> anyhow::Result<Table> {
    let mut table: Table = sides.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
    for (_, side) in sides {
        side(threads, ROUND).await?;
    }
    for round in 0..ROUNDS {
        // Who goes first changes, so that a slow drift of the machine favours nobody.
        for turn in 0..sides.len() {
            let index = (round + turn) % sides.len();
            table[index].1.push(sides[index].1(threads, ROUND).await?);
        }
    }
    eprintln!("  {what}");
    for (name, rounds) in &table {
        eprintln!("    {:9.0} ns  {name}", median(rounds.clone()));
    }
    Ok(table)
}

/// One replica of every side, with all keys in its memory.
pub struct Contestants {
    ours: (Ours, Arc<[Key]>),
    amalgam: (Amalgam, Arc<[Key]>),
    strict: (Amalgam, Arc<[Key]>),
    multi_tier: (MultiTier, Arc<[Key]>),
    hitbox: (Hitbox, Arc<[Key]>),
    moka: moka::sync::Cache<Uuid, Arc<Record>>,
    moka_future: moka::future::Cache<Uuid, Arc<Record>>,
}

impl Contestants {
    /// Starts and fills them.
    ///
    /// # Errors
    /// When a side cannot be set up, or a read fails.
    pub async fn start(stage: &Stage, scenario: &str, text_bytes: usize) -> anyhow::Result<Self> {
        let ids = fresh(KEYS);
        stage.truth.add(&ids, text_bytes).await?;
        // Ours counts bytes: there is room for the large records, too.
        let all = peers::all();
        let site = |index: usize| stage.site(&all[index], scenario, 20_000);
        let moka = moka::sync::Cache::new(20_000);
        let moka_future = moka::future::Cache::new(20_000);
        for id in &ids {
            let record = Arc::new(stage.truth.load_one(*id).await?);
            moka.insert(*id, Arc::clone(&record));
            moka_future.insert(*id, record).await;
        }
        Ok(Self {
            ours: warm(Ours::start(&site(0))?, &site(0), &ids).await?,
            amalgam: warm(Amalgam::start(&site(1), false).await?, &site(1), &ids).await?,
            strict: warm(Amalgam::start(&site(2), true).await?, &site(2), &ids).await?,
            multi_tier: warm(MultiTier::start(&site(3)).await?, &site(3), &ids).await?,
            hitbox: warm(Hitbox::start(&site(4))?, &site(4), &ids).await?,
            moka,
            moka_future,
        })
    }

    /// Reads of so many of the keys.
    pub fn hits(&self, keys: usize) -> Sides {
        let (sync, future) = (&self.moka, &self.moka_future);
        let own_keys = &self.ours.1;
        vec![
            ("ours".to_owned(), reads(&self.ours, keys)),
            side(&format!("{} sync::Cache", versions::of("moka")), sync, &own_keys[..keys], {
                async |cache: &moka::sync::Cache<Uuid, Arc<Record>>, key: &Key| {
                    black_box(cache.get(&key.id));
                    Ok(())
                }
            }),
            side(&format!("{} future::Cache", versions::of("moka")), future, &own_keys[..keys], {
                async |cache: &moka::future::Cache<Uuid, Arc<Record>>, key: &Key| {
                    black_box(cache.get(&key.id).await);
                    Ok(())
                }
            }),
            (versions::of("amalgam-cache"), reads(&self.amalgam, keys)),
            (format!("{} strict", versions::of("amalgam-cache")), reads(&self.strict, keys)),
            (versions::of("multi-tier-cache"), reads(&self.multi_tier, keys)),
            (versions::of("hitbox"), reads(&self.hitbox, keys)),
        ]
    }

    /// Reads that end in the bytes of a gRPC message: ours stores them, peers encode the value.
    fn replies(&self) -> Sides {
        let amalgam = async |cache: &Amalgam, key: &Key| {
            black_box(encoded(&*cache.record(key).await?));
            Ok(())
        };
        vec![
            side("ours", &self.ours.0, &self.ours.1, async |cache: &Ours, key: &Key| {
                black_box(framed(&cache.entry(key).await?.encoded));
                Ok(())
            }),
            side(&versions::of("amalgam-cache"), &self.amalgam.0, &self.amalgam.1, amalgam),
            side(
                &format!("{} strict", versions::of("amalgam-cache")),
                &self.strict.0,
                &self.strict.1,
                amalgam,
            ),
            side(&versions::of("multi-tier-cache"), &self.multi_tier.0, &self.multi_tier.1, {
                async |cache: &MultiTier, key: &Key| {
                    black_box(encoded(&cache.record(key).await?));
                    Ok(())
                }
            }),
            side(&versions::of("hitbox"), &self.hitbox.0, &self.hitbox.1, {
                async |cache: &Hitbox, key: &Key| {
                    black_box(encoded(&cache.record(key).await?));
                    Ok(())
                }
            }),
        ]
    }
}

/// The head of a gRPC message: not compressed, and its length.
fn head(length: usize) -> BytesMut {
    let mut reply = BytesMut::with_capacity(REPLY_BUFFER);
    reply.put_u8(0);
    reply.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    reply
}

fn framed(stored: &Bytes) -> Bytes {
    let mut reply = head(stored.len());
    reply.put_slice(stored);
    reply.freeze()
}

fn encoded(record: &Record) -> Bytes {
    let mut reply = head(record.encoded_len());
    record.encode(&mut reply).expect("a BytesMut grows");
    reply.freeze()
}

/// Fills a replica, and reads every key again so that its memory holds it.
async fn warm<R: Replica>(
    replica: R,
    site: &Site,
    ids: &[Uuid],
) -> anyhow::Result<(R, Arc<[Key]>)> {
    let keys = keys(site, ids);
    let node: crate::cache::replica::Node = Arc::new(replica.clone());
    fill(&node, &keys).await?;
    fill(&node, &keys).await?;
    Ok((replica, keys.into()))
}

fn reads<R: Replica>((replica, keys): &(R, Arc<[Key]>), count: usize) -> Run {
    let read = async |replica: &R, key: &Key| {
        black_box(Replica::get(replica, key).await?);
        Ok(())
    };
    side("", replica, &keys[..count], read).1
}

/// A side whose threads read one key after the other.
fn side<C, F>(name: &str, cache: &C, keys: &[Key], read: F) -> (String, Run)
where
    C: Clone + Send + 'static,
    F: AsyncFn(&C, &Key) -> anyhow::Result<()> + Copy + Send + 'static,
{
    let (cache, keys): (C, Arc<[Key]>) = (cache.clone(), keys.into());
    let shared = std::sync::Mutex::new(cache);
    let run = move |threads: usize, duration: Duration| -> Boxed<'static, anyhow::Result<f64>> {
        let cache = shared.lock().expect("nobody panics").clone();
        let keys = Arc::clone(&keys);
        Box::pin(async move {
            let mut running = Vec::new();
            for thread in 0..threads {
                let (cache, keys) = (cache.clone(), Arc::clone(&keys));
                let runtime = tokio::runtime::Handle::current();
                running.push(tokio::task::spawn_blocking(move || {
                    runtime.block_on(spin(&cache, &keys, thread * KEYS / 2, duration, read))
                }));
            }
            let mut total = 0.0;
            for thread in running {
                total += thread.await??;
            }
            Ok(total / threads as f64)
        })
    };
    (name.to_owned(), Box::new(run))
}

async fn spin<C, F>(
    cache: &C,
    keys: &[Key],
    first: usize,
    duration: Duration,
    read: F,
) -> anyhow::Result<f64>
where
    F: AsyncFn(&C, &Key) -> anyhow::Result<()>,
{
    let started = Instant::now();
    let (mut index, mut reads) = (first % keys.len(), 0_usize);
    while started.elapsed() < duration {
        for _ in 0..BATCH {
            // Coprime to the number of keys: every key comes by, neighbours do not.
            index = (index + 387) % keys.len();
            read(cache, &keys[index]).await?;
        }
        reads += BATCH;
    }
    Ok(started.elapsed().as_nanos() as f64 / reads as f64)
}
