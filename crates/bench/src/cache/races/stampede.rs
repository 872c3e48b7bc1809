//! Everybody wants one key that nobody has, and the first who asked for it goes away.

use std::time::Duration;

use futures_util::future::join_all;

use crate::cache::Stage;
use crate::cache::peers::Peer;
use crate::cache::races::{HANGS_AFTER, counted, read, replicas, rows};

/// Readers of each of three replicas.
const READERS: usize = 2_000;
/// Statements that it may take: that of the leader, and one more since he went away.
const STATEMENTS_MAX: u64 = 2;
/// How long the readers may take to line up.
const LINED_UP: Duration = Duration::from_millis(500);

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-stampede", 10_000);
    let nodes = replicas(peer, &site, 3).await?;
    let key = rows(&site, 1).await?.remove(0);
    site.truth.hold();
    let leader = tokio::spawn({
        let (node, key) = (nodes[0].clone(), key.clone());
        async move { node.get(&key).await }
    });
    anyhow::ensure!(site.truth.held(HANGS_AFTER).await, "no load came");
    let readers: Vec<_> = (0..READERS * nodes.len())
        .map(|reader| {
            let (node, key) = (nodes[reader % nodes.len()].clone(), key.clone());
            tokio::spawn(async move { read(&node, &key).await })
        })
        .collect();
    tokio::time::sleep(LINED_UP).await;
    leader.abort();
    site.truth.release();
    let answers = join_all(readers).await;
    let answered = answers.iter().filter(|answer| matches!(answer, Ok(Ok(_)))).count();
    let (statements, _) = site.truth.take_counts();
    let statements = counted(statements, STATEMENTS_MAX, "SQL");
    Ok(if answered == READERS * nodes.len() {
        format!("{answered} answered, {statements}")
    } else {
        format!("**{answered} of {} answered**, {statements}", READERS * nodes.len())
    })
}
