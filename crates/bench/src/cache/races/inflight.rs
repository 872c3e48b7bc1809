//! A change is committed and invalidated while another replica is between its load and its fill.

use std::time::Duration;

use crate::cache::Stage;
use crate::cache::peers::Peer;
use crate::cache::races::{SETTLED, proxied, read, replicas, rows, settle, stale, verdict};

/// Keys that the race is run with.
const TRIALS: usize = 20;
/// How long a load or a fill may take to get to where it is held up.
const PATIENCE: Duration = Duration::from_secs(3);

/// One replica has read the row and not yet answered when another one writes it.
pub(super) async fn load(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-load", 10_000);
    let nodes = replicas(peer, &site, 3).await?;
    let mut written = Vec::new();
    for key in rows(&site, TRIALS).await? {
        site.truth.hold();
        let (reader, own) = (nodes[0].clone(), key.clone());
        let reading = tokio::spawn(async move { read(&reader, &own).await });
        anyhow::ensure!(site.truth.held(PATIENCE).await, "no load came");
        let version = site.truth.write(key.id).await?;
        nodes[1].invalidate(&key, version).await?;
        // The message is delivered before the load goes on.
        tokio::time::sleep(Duration::from_millis(20)).await;
        site.truth.release();
        reading.await??;
        site.truth.close_again();
        written.push((key, version));
    }
    tokio::time::sleep(SETTLED).await;
    Ok(verdict(stale(&nodes, &written).await, TRIALS))
}

/// One replica has loaded the row, and what it sends to Redis is on its way for a while. Another
/// one writes the row meanwhile. The last read is that of a replica that starts afterwards.
pub(super) async fn fill(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-fill", 10_000);
    let (proxy, through) = proxied(&site).await?;
    let slow = peer.start(&through).await?;
    let mut nodes = replicas(peer, &site, 1).await?;
    settle(std::slice::from_ref(&slow), &site).await?;
    let mut written = Vec::new();
    for key in rows(&site, TRIALS).await? {
        site.truth.hold();
        let (reader, own) = (slow.clone(), key.clone());
        let reading = tokio::spawn(async move { read(&reader, &own).await });
        anyhow::ensure!(site.truth.held(PATIENCE).await, "no load came");
        proxy.hold();
        site.truth.release();
        // The fill is written to the socket now, whether or not the reader waits for it.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let version = site.truth.write(key.id).await?;
        nodes[0].invalidate(&key, version).await?;
        proxy.release();
        reading.await??;
        site.truth.close_again();
        written.push((key, version));
    }
    tokio::time::sleep(SETTLED).await;
    nodes.push(peer.start(&site).await?);
    Ok(verdict(stale(&nodes, &written).await, TRIALS))
}
