//! Redis answers nothing for a while, and its connections stay open.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cache::peers::Peer;
use crate::cache::races::{operator, read, replicas, rows};
use crate::cache::readers::{Seen, reader};
use crate::cache::{Stage, fill, ms_since, percentile};

/// How long Redis is stopped.
const STOPPED: Duration = Duration::from_secs(10);
/// Keys that L1 holds, and keys that nobody has read.
const HOT: usize = 200;
const COLD: usize = 25_000;
/// Readers of cold keys.
const READERS: usize = 10;

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-brownout", 20_000);
    let node = replicas(peer, &site, 1).await?.remove(0);
    let hot = rows(&site, HOT).await?;
    let cold = rows(&site, COLD).await?;
    fill(&node, &hot).await?;
    fill(&node, &hot).await?;
    let redis = operator(stage).await?;
    site.truth.take_counts();
    let over = Arc::new(AtomicBool::new(false));
    let hits = tokio::spawn(reader(node.clone(), hot, Arc::clone(&over)));
    let misses: Vec<_> = cold
        .chunks(COLD / READERS)
        .map(|keys| tokio::spawn(reader(node.clone(), keys.to_vec(), Arc::clone(&over))))
        .collect();
    let stopped = redis.stop().await?;
    tokio::time::sleep(STOPPED).await;
    over.store(true, Ordering::SeqCst);
    // A read that began while Redis was stopped is given its time before Redis goes on.
    let mut cold = Seen::default();
    for reader in misses {
        let seen = reader.await?;
        cold.times.extend(seen.times);
        cold.failed += seen.failed;
    }
    let hot = hits.await?;
    stopped.go_on().await?;
    let went_on = Instant::now();
    let key = rows(&site, 1).await?.remove(0);
    let recovered = read(&node, &key).await.map(|_| ms_since(went_on));
    cold.times.sort_by(f64::total_cmp);
    let mut hot_times = hot.times;
    hot_times.sort_by(f64::total_cmp);
    // An error took its time, too.
    let reads = cold.times.len();
    let (_, loads) = site.truth.take_counts();
    let good = cold.failed == 0 && percentile(&cold.times, 1.0) < 1_000.0;
    let mark = if good { "" } else { "**" };
    Ok(format!(
        "{mark}{reads} misses: p99 {:.1} ms, longest {:.0} ms, {} failed{mark}; hits: p99 {:.2} ms; \
         {loads} loads at once; first read after: {}",
        percentile(&cold.times, 0.99),
        percentile(&cold.times, 1.0),
        cold.failed,
        percentile(&hot_times, 0.99),
        recovered.map_or_else(|error| format!("{error:#}"), |ms| format!("{ms:.0} ms")),
    ))
}
