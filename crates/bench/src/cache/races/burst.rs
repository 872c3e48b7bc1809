//! A thousand keys that nobody has are wanted at once.

use crate::cache::Stage;
use crate::cache::burst::{BOUND, KEYS, burst};
use crate::cache::peers::Peer;
use crate::cache::races::{at_most, counted, proxied, settle};

pub(super) async fn run(stage: &Stage, peer: &Peer) -> anyhow::Result<String> {
    let site = stage.site(peer, "race-burst", 10_000);
    let (proxy, through) = proxied(&site).await?;
    let node = peer.start(&through).await?;
    settle(std::slice::from_ref(&node), &site).await?;
    let done = burst(&node, &site, &proxy).await?;
    if peer.is_ours() {
        let what = "1,000 distinct misses at once";
        at_most(&format!("{what}: SQL"), "statements", done.statements, BOUND);
        at_most(&format!("{what}: Redis"), "round trips", done.round_trips, BOUND);
    }
    let answered = if done.answered == KEYS {
        format!("{KEYS} answered")
    } else {
        format!("**{} of {KEYS} answered**", done.answered)
    };
    Ok(format!(
        "{answered} in {:.0} ms, {}, {} Redis commands in {} round trips",
        done.took_ms,
        counted(done.statements, BOUND, "SQL"),
        done.commands,
        done.round_trips,
    ))
}
