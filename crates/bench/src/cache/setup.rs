//! What several scenarios do before the clock runs: new rows, replicas that have settled, a full L2, a
//! proxy.

use std::time::Duration;

use crate::cache::peers::Peer;
use crate::cache::proxy::Proxy;
use crate::cache::record::{Key, TEXT_BYTES, fresh};
use crate::cache::replica::{Node, Site};
use crate::cache::{fill, keys};

/// A read that takes longer hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(8);

/// Gives every replica a read, and its connections time to be made: nothing is measured on a
/// replica that is still starting.
///
/// # Errors
/// When a read fails.
pub async fn settle(nodes: &[Node], site: &Site) -> anyhow::Result<()> {
    let ids = fresh(1);
    site.truth.add(&ids, TEXT_BYTES).await?;
    for node in nodes {
        read(node, &site.key(ids[0])).await?;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    site.truth.take_counts();
    Ok(())
}

/// Gets keys into L2 by replicas that end then. Two, one after the other: a replica answers before
/// its fill of L2 has arrived, and what the first one did not get there, the second one does.
///
/// # Errors
/// When a read fails.
pub async fn fill_l2(peer: &Peer, site: &Site, keys: &[Key]) -> anyhow::Result<()> {
    for _ in 0..2 {
        let node = peer.start(site).await?;
        settle(std::slice::from_ref(&node), site).await?;
        fill(&node, keys).await?;
    }
    Ok(())
}

/// New rows, and their keys.
///
/// # Errors
/// When Postgres does not take them.
pub async fn rows(site: &Site, count: usize) -> anyhow::Result<Vec<Key>> {
    let ids = fresh(count);
    site.truth.add(&ids, TEXT_BYTES).await?;
    Ok(keys(site, &ids))
}

/// A read with an end.
///
/// # Errors
/// When it fails or hangs.
pub async fn read(node: &Node, key: &Key) -> anyhow::Result<i64> {
    tokio::time::timeout(HANGS_AFTER, node.get(key))
        .await
        .map_err(|_| anyhow::anyhow!("a read hung for {} s", HANGS_AFTER.as_secs()))?
}

/// A proxy in front of the Redis of a site.
///
/// # Errors
/// When it cannot be started.
pub async fn proxied(site: &Site) -> anyhow::Result<(Proxy, Site)> {
    let proxy = Proxy::start(&site.redis_url).await?;
    let through = site.through(&proxy.url);
    Ok((proxy, through))
}
