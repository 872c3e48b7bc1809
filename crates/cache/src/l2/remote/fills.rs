//! Storing in L2 what was loaded.

use std::time::Duration;

use forebay_redis::{Reply, ScriptCall};

use super::{Remote, Space, lease_key, millis, worked};
use crate::l2::wire::{self, Epoch};

/// Entries that one run of the script stores: about a millisecond of the server.
const FILLS_MAX: usize = 256;

/// One entry to be stored under a lease.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) entry_key: String,
    /// As it was granted.
    pub(crate) lease: String,
    pub(crate) version: i64,
    /// Empty to give the lease back.
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: Duration,
}

/// What became of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Stored,
    /// A newer version or tombstone is there: what was read is out of date.
    Outdated,
    /// The lease was void: it expired, or the row changed since it was given.
    Fenced,
    /// Not stored for any other reason.
    Dropped,
}

impl Remote {
    /// Stores entries under their leases with one pipeline, each unless something newer is there.
    pub(crate) async fn fill(&self, space: Space, epoch: Epoch, fills: &[Fill]) -> Vec<Filled> {
        let Some(call) = self.breaker.call() else {
            return vec![Filled::Dropped; fills.len()];
        };
        let runs = fills.chunks(FILLS_MAX);
        let calls: Vec<_> = runs.clone().map(|fills| call_for(space, epoch, fills)).collect();
        let answer = self.quick.eval_many(&self.fill, &calls).await;
        worked(call, &answer);
        let Some(answers) = self.counted("fill", answer) else {
            return vec![Filled::Dropped; fills.len()];
        };
        let answers = answers.into_iter().map(|answer| self.counted("fill", answer));
        runs.zip(answers).flat_map(|(fills, answer)| filled(fills.len(), answer)).collect()
    }
}

fn call_for(space: Space, epoch: Epoch, fills: &[Fill]) -> ScriptCall {
    let call = ScriptCall::new().key(space.fence_key());
    let call = fills
        .iter()
        .fold(call, |call, fill| call.key(fill.entry_key.as_str()).key(lease_key(&fill.entry_key)));
    fills.iter().fold(call.arg(epoch.as_bytes()), |call, fill| {
        let version = wire::version_text(fill.version);
        call.arg(&fill.lease).arg(version).arg(&fill.value).arg(millis(fill.ttl))
    })
}

/// What became of so many fills.
fn filled(count: usize, answer: Option<Reply>) -> Vec<Filled> {
    let results = match answer {
        Some(Reply::List(results)) if results.len() == count => results,
        Some(_) | None => return vec![Filled::Dropped; count],
    };
    let filled = |result: Reply| match result {
        Reply::Int(1) => Filled::Stored,
        Reply::Int(-1) => Filled::Outdated,
        Reply::Int(0) => Filled::Fenced,
        _ => Filled::Dropped,
    };
    results.into_iter().map(filled).collect()
}
