//! What a hit allocates, and what an entry takes in memory.

use std::alloc::System;
use std::time::Duration;

use anyhow::ensure;
use prost::Message as _;
use stats_alloc::{Region, StatsAlloc};

use crate::cache::hits::Contestants;
use crate::cache::record::{Record, TEXT_BYTES, fresh};
use crate::cache::server::Operator;
use crate::cache::{Stage, Table, bound, compare_all, fill, keys};
use crate::rounds::ROUNDS;

/// The allocator of the program.
type Counting = &'static StatsAlloc<System>;

/// Keys of the memory figures.
const KEYS: usize = 10_000;
/// How long background work may take to end.
const QUIET: Duration = Duration::from_millis(500);
/// Tasks of the background allocate now and then; hits that allocate do it every time.
const NONE: f64 = 0.01;
/// What an entry may take in L1: 1.2 times what is stored, and its bookkeeping. The value is held
/// twice, decoded and encoded, so what is stored is twice the record.
const L1_BOUND: fn(f64) -> f64 = |payload| 1.2 * 2.0 * payload + 150.0;
/// What an entry may take in L2.
const L2_BOUND: fn(f64) -> f64 = |payload| 1.2 * payload + 150.0;

/// Allocations of a hit.
///
/// # Errors
/// When a side cannot be set up, or a read fails.
pub async fn allocations(stage: &Stage, allocator: Counting) -> anyhow::Result<()> {
    let sides = Contestants::start(stage, "allocations", TEXT_BYTES).await?.hits(1_000);
    tokio::time::sleep(QUIET).await;
    let mut table: Table = Vec::new();
    for (name, run) in &sides {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let region = Region::new(allocator);
            let spent = Duration::from_millis(100);
            let ns = run(1, spent).await?;
            ensure!(ns > 0.0, "no read");
            let reads = spent.as_nanos() as f64 / ns;
            rounds.push((region.change().allocations as f64 / reads * 1e3).round() / 1e3);
        }
        eprintln!("  allocations of a hit: {rounds:?}  {name}");
        table.push((name.clone(), rounds));
    }
    let case = "L1 hit of 300 B, 1 thread: allocations";
    compare_all(case, "of a hit", &table, |_| None);
    if let Some((_, ours)) = table.first() {
        bound(case, "of a hit", ours, NONE, false);
    }
    Ok(())
}

/// Bytes of an entry in both levels.
///
/// # Errors
/// When a side cannot be set up, or a read fails.
pub async fn bytes(stage: &Stage, allocator: Counting) -> anyhow::Result<()> {
    let mut redis = Operator::connect(&stage.redis_url).await?;
    let ids = fresh(KEYS);
    stage.truth.add(&ids, TEXT_BYTES).await?;
    let record = stage.truth.load_one(ids[0]).await?;
    let payload = Record::encoded_len(&record) as f64;
    let (mut l1, mut l2): (Table, Table) = Default::default();
    for peer in &stage.peers {
        let site = stage.site(peer, "bytes", 40_000);
        let node = peer.start(&site).await?;
        let keys = keys(&site, &ids);
        // What the first read allocates is no entry.
        fill(&node, &keys[..1]).await?;
        tokio::time::sleep(QUIET).await;
        let (region, before) = (Region::new(allocator), redis.used_memory().await?);
        for _ in 0..3 {
            // hitbox and multi-tier-cache fill L1 from L2 at a later read.
            fill(&node, &keys).await?;
        }
        tokio::time::sleep(QUIET).await;
        let change = region.change();
        let held = change.bytes_allocated as f64 - change.bytes_deallocated as f64
            + change.bytes_reallocated as f64;
        let each = |bytes: f64| (bytes / KEYS as f64).round();
        l1.push((peer.name.clone(), vec![each(held)]));
        l2.push((peer.name.clone(), vec![each(redis.used_memory().await? - before)]));
    }
    eprintln!("  bytes of an entry of {payload} B: L1 {l1:?}, L2 {l2:?}");
    let what = format!("An entry of {payload} B");
    compare_all(&format!("{what}: L1"), "B", &l1, |_| None);
    compare_all(&format!("{what}: L2"), "B", &l2, |_| None);
    if let (Some((_, in_l1)), Some((_, in_l2))) = (l1.first(), l2.first()) {
        bound(&format!("{what}: L1"), "B", in_l1, L1_BOUND(payload), false);
        bound(&format!("{what}: L2"), "B", in_l2, L2_BOUND(payload), false);
    }
    Ok(())
}
