//! A replica reads a key from L2 and invalidates it at the same time.

use crate::cache::peers::Peer;
use crate::cache::races::{SETTLED, read, replicas, rows, verdict};
use crate::cache::{Stage, fill};

/// Keys that the race is run with.
const TRIALS: usize = 200;

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-own", 10_000);
    let nodes = replicas(peer, &site, 2).await?;
    let keys = rows(&site, TRIALS).await?;
    // In L2, and not in the memory of the replica that races.
    fill(&nodes[1], &keys).await?;
    let mut written = Vec::new();
    for (trial, key) in keys.into_iter().enumerate() {
        let version = site.truth.write(key.id).await?;
        // The read's command goes first; the answer comes when the invalidation has begun.
        let reader = async { read(&nodes[0], &key).await.map(|_| ()) };
        let writer = async {
            for _ in 0..trial % 4 {
                tokio::task::yield_now().await;
            }
            nodes[0].invalidate(&key, version).await
        };
        tokio::try_join!(reader, writer)?;
        written.push((key, version));
    }
    tokio::time::sleep(SETTLED).await;
    let mut stale = 0;
    for (key, version) in &written {
        stale += usize::from(read(&nodes[0], key).await? < *version);
    }
    Ok(verdict(stale, TRIALS))
}
