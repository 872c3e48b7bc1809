//! A thousand keys that nobody has are wanted at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::cache::peers::Peer;
use crate::cache::races::{at_most, counted, proxied, read, rows, settle};
use crate::cache::{Stage, ms_since};

/// Keys.
const KEYS: usize = 1_000;
/// Statements that it may take, and round trips.
const BOUND: u64 = 8;

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-burst", 10_000);
    let (proxy, through) = proxied(&site).await?;
    let node = peer.start(&through).await?;
    settle(std::slice::from_ref(&node), &site).await?;
    let keys = rows(&site, KEYS).await?;
    proxy.take_counts();
    let started = Instant::now();
    let reads = keys.into_iter().map(|key| {
        let node = node.clone();
        tokio::spawn(async move { read(&node, &key).await })
    });
    let answers = join_all(reads.collect::<Vec<_>>()).await;
    let took = ms_since(started);
    // Fills may go on when everybody has an answer.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let answered = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    let (statements, _) = site.truth.take_counts();
    let (commands, round_trips) = proxy.take_counts();
    if peer.is_ours() {
        let what = "1,000 distinct misses at once";
        at_most(&format!("{what}: SQL"), "statements", statements, BOUND);
        at_most(&format!("{what}: Redis"), "round trips", round_trips, BOUND);
    }
    let answered = if answered == KEYS {
        format!("{answered} answered")
    } else {
        format!("**{answered} of {KEYS} answered**")
    };
    let statements = counted(statements, BOUND, "SQL");
    Ok(format!(
        "{answered} in {took:.0} ms, {statements}, {commands} Redis commands in {round_trips} round \
         trips"
    ))
}
