//! Ten thousand entries expire together, and everybody wants them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::{Node, Site};
use crate::cache::{Stage, Table, bound, compare_all, fill, keys, ms_since, percentile};
use crate::pools::settings;

const KEYS: usize = 10_000;
/// How long the entries live.
const TTL: Duration = Duration::from_secs(4);
/// Readers at once.
const TASKS: usize = 512;

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a read fails.
pub async fn measure(stage: &Stage) -> anyhow::Result<()> {
    let ids = fresh(KEYS);
    stage.truth.add(&ids, TEXT_BYTES).await?;
    let mut sides = Vec::new();
    for peer in &stage.peers {
        let site = Site { ttl: TTL, ..stage.site(peer, "storm", 20_000) };
        let node = peer.start(&site).await?;
        let keys: Arc<[Key]> = keys(&site, &ids).into();
        fill(&node, &keys).await?;
        sides.push((peer.name.clone(), site, node, keys));
    }
    tokio::time::sleep(TTL).await;
    let what = "10,000 entries expire at once";
    let mut tables: [Table; 4] = Default::default();
    for (name, site, node, keys) in &sides {
        let figures = storm(site, node, keys).await?;
        eprintln!("  {what}: SQL, at once, p99 ms, all ms: {figures:.0?}  {name}");
        for (table, figure) in tables.iter_mut().zip(figures) {
            table.push((name.clone(), vec![figure]));
        }
    }
    let names = [
        ("statements", "SQL"),
        ("most at once", "SQL"),
        ("p99 of a read", "ms"),
        ("all 10,000 read", "ms"),
    ];
    for ((name, unit), table) in names.into_iter().zip(&tables) {
        compare_all(&format!("{what}: {name}"), unit, table, |_| None);
    }
    let bulkhead = settings(&[])?.cache.token.loads_max;
    if let Some((_, ours)) = tables[1].first() {
        bound(&format!("{what}: most at once"), "SQL", ours, bulkhead as f64, false);
    }
    Ok(())
}

async fn storm(site: &Site, node: &Node, keys: &Arc<[Key]>) -> anyhow::Result<[f64; 4]> {
    site.truth.take_counts();
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let readers: Vec<_> = (0..TASKS)
        .map(|_| {
            let (node, keys, next) = (node.clone(), Arc::clone(keys), Arc::clone(&next));
            tokio::spawn(async move {
                let mut times = Vec::new();
                while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let asked = Instant::now();
                    node.get(key).await?;
                    times.push(ms_since(asked));
                }
                anyhow::Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.await??);
    }
    let all = ms_since(started);
    times.sort_by(f64::total_cmp);
    let (statements, peak) = site.truth.take_counts();
    Ok([statements as f64, peak as f64, percentile(&times, 0.99), all])
}
