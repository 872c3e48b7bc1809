//! The steps by which a process makes L2 right. Each ends with a higher mark.

use std::time::Duration;

use bytes::Bytes;
use forebay_redis::{Reply, ScriptCall};

use super::{LOG_KEY, Ordering, Remote, Space, Trust, lease_key, millis};
use crate::changes::announced::Chain;
use crate::changes::pending::Invalidation;
use crate::l2::wire::{self, Epoch};

/// How long a tombstone is kept. It turns away fills that were read from a server that lags behind;
/// all others are turned away because their lease is void.
pub(crate) const TOMBSTONE_TTL: Duration = Duration::from_secs(120);
/// How long a mark is kept after the last step. A process that takes longer begins a new one.
const MARK_TTL: Duration = Duration::from_secs(3600);
/// Entries of the log at least. One is about 100 bytes.
const LOG_MAX: &str = "16384";

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The data set has it, and all before it.
    Done,
    /// The data set is another one, or has another epoch.
    OtherDataset,
    /// Somebody's announcements are not in this data set.
    NotThere,
    /// There was no answer.
    Failed,
}

/// Changes that are told in one step.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) changes: &'a [(u64, Invalidation)],
    /// What goes to the log for each; empty for nothing.
    pub(crate) messages: Vec<Bytes>,
}

/// What a data set claims to have been told: every change up to a snapshot.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) text: String,
}

/// The state of one entity after synchronising.
#[derive(Debug)]
pub(crate) struct Synchronized {
    pub(crate) epoch: Epoch,
    /// What goes with the epoch: every change up to there is in its entries, or has voided them.
    pub(crate) claim: Option<String>,
}

impl Remote {
    /// Tells L2 of changes, in several steps with one pipeline.
    pub(crate) async fn invalidate(&self, trust: &Trust, told: &[Told<'_>]) -> Vec<Step> {
        let tombstone_px = millis(TOMBSTONE_TTL);
        let mut calls = Vec::with_capacity(told.len());
        let mut mark = trust.mark();
        for Told { changes, messages } in told {
            let mut call = ScriptCall::new().key(trust.chain.mark_key()).key(LOG_KEY);
            for (_, change) in *changes {
                call = call.key(change.entry_key.as_str()).key(lease_key(&change.entry_key));
            }
            call = marks(call, &mut mark).arg(&tombstone_px).arg(LOG_MAX);
            for ((_, change), message) in changes.iter().zip(messages) {
                let force = if change.force { "1" } else { "0" };
                call = call.arg(wire::tombstone(change.version)).arg(force).arg(message);
            }
            calls.push(call);
        }
        let answer = self.patient.eval_many(&self.invalidate, &calls).await;
        let Some(answers) = self.counted("invalidate", answer) else {
            return vec![Step::Failed; told.len()];
        };
        let answers = answers.into_iter();
        let steps: Vec<_> =
            answers.map(|answer| step(self.counted("invalidate", answer))).collect();
        let done = steps.iter().take_while(|step| **step == Step::Done).count();
        advance(trust, u64::try_from(done).unwrap_or(0));
        steps
    }

    /// Relies on what others have announced, if the data set has it.
    pub(crate) async fn adopt(&self, trust: &Trust, others: &[(Chain, u64)]) -> Step {
        let mut call = ScriptCall::new().key(trust.chain.mark_key());
        for (chain, _) in others {
            call = call.key(chain.mark_key());
        }
        call = marks(call, &mut trust.mark());
        for (_, mark) in others {
            call = call.arg(mark.to_string());
        }
        let answer = self.patient.eval(&self.adopt, &call).await;
        let step = step(self.counted("adopt", answer));
        advance(trust, u64::from(step == Step::Done));
        step
    }

    /// Claims that the data set has been told of every change up to a snapshot.
    pub(crate) async fn claim(&self, trust: &Trust, spaces: &[Space], claim: &Claim) -> Step {
        let known = spaces.iter().filter_map(|space| Some((space, trust.epochs.get(&space.id)?)));
        let mut call = ScriptCall::new().key(trust.chain.mark_key());
        for (space, _) in known.clone() {
            call = call.key(space.epoch_key()).key(space.claim_key());
        }
        call = marks(call, &mut trust.mark()).arg(&claim.text);
        for (_, epoch) in known {
            call = call.arg(epoch.as_bytes());
        }
        let answer = self.patient.eval(&self.claim, &call).await;
        let step = step(self.counted("claim", answer));
        advance(trust, u64::from(step == Step::Done));
        step
    }

    /// Begins a new mark at one, makes sure that each entity has an epoch, and says which. For each
    /// entity whether a new one is forced, and what the log is told of that; `claim` goes with new
    /// ones.
    pub(crate) async fn synchronize(
        &self,
        chain: &Chain,
        claim: &Claim,
        spaces: &[(Space, bool, Bytes)],
    ) -> Option<Vec<Synchronized>> {
        let mut call = ScriptCall::new().key(chain.mark_key()).key(LOG_KEY);
        for (space, ..) in spaces {
            call = call.key(space.epoch_key()).key(space.claim_key()).key(space.collection_key());
        }
        call = call.arg(Epoch::fresh().as_bytes()).arg(millis(MARK_TTL)).arg(LOG_MAX);
        call = call.arg(&claim.text);
        for (_, force, message) in spaces {
            call = call.arg(if *force { "1" } else { "0" }).arg(message);
        }
        let answer = self.patient.eval(&self.synchronize, &call).await;
        let Some(Reply::List(parts)) = self.counted("synchronize", answer) else {
            return None;
        };
        let synchronized: Option<Vec<_>> = parts
            .chunks_exact(2)
            .map(|pair| match pair {
                [Reply::Bytes(epoch), Reply::Bytes(claim)] => Some(Synchronized {
                    epoch: Epoch::parse(epoch)?,
                    claim: str::from_utf8(claim)
                        .ok()
                        .filter(|it| !it.is_empty())
                        .map(str::to_owned),
                }),
                _ => None,
            })
            .collect();
        synchronized.filter(|found| found.len() == spaces.len())
    }
}

/// The mark before and after a step, and how long it is kept.
fn marks(call: ScriptCall, mark: &mut u64) -> ScriptCall {
    let before = *mark;
    *mark += 1;
    call.arg(before.to_string()).arg(mark.to_string()).arg(millis(MARK_TTL))
}

/// Before the changes stop to wait: a reader who finds that they do not must ask for this mark.
fn advance(trust: &Trust, steps: u64) {
    trust.mark.fetch_add(steps, Ordering::SeqCst);
}

fn step(reply: Option<Reply>) -> Step {
    match reply {
        Some(Reply::Int(1)) => Step::Done,
        Some(Reply::Int(0)) => Step::OtherDataset,
        Some(Reply::Int(2)) => Step::NotThere,
        Some(_) | None => Step::Failed,
    }
}
