//! The authority on changes: this process reads the outbox of the primary, several times a second.
//!
//! It needs neither Redis nor a session of its own (each question is one statement), so it works
//! behind a transaction pooler and while Redis is away. `LISTEN` would be told sooner, but needs a
//! session, and what is lost with it would have to be asked for all the same.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use crate::cache::Entities;
use crate::changes::announced::Memory;
use crate::changes::outbox::{Base, Change, Cursor, Look, Outbox, OutboxError};
use crate::changes::pending::{Invalidation, Pending};
use crate::changes::progress::Progress;
use crate::changes::settled::{Asked, Settled};
use crate::changes::snapshots::Snapshots;
use crate::l1::local::Local;
use crate::l2::dataset::{Dataset, Round};
use crate::metrics::{Forgotten, Metrics};

/// Changes asked for with one statement.
pub(crate) const PAGE_MAX: i64 = 5_000;
/// Changes applied one by one in one round. With more it is cheaper to forget everything.
const ROUND_MAX: usize = 50_000;

/// What the changes are applied to.
pub(crate) struct Tail {
    pub(crate) outbox: Outbox,
    pub(crate) interval: Duration,
    pub(crate) progress: Arc<Progress>,
    pub(crate) settled: Arc<Settled>,
    pub(crate) local: Arc<Local>,
    pub(crate) entities: Entities,
    pub(crate) pending: Arc<Pending>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Tail {
    /// Follows the outbox. Never ends.
    pub(crate) async fn run(self) {
        let mut base = None;
        let mut failures = 0_u64;
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (era, looked) = (self.progress.view().era, self.look().await);
            match self.round(base.as_ref()).await {
                Ok(next) => {
                    if let Some((look, asked)) = looked
                        && self.progress.view().era == era
                    {
                        self.settled.have_applied(era, look, &asked);
                    }
                    let ticket = self.pending.next_ticket();
                    self.dataset.set_round(Round { base: next.clone(), ticket });
                    self.snapshots.add(Instant::now(), &next.snapshot);
                    base = Some(next);
                    failures = 0;
                }
                Err(error) => {
                    // Every failure would be a line for each interval of an outage.
                    if failures == 0 {
                        let error: &dyn std::error::Error = &error;
                        tracing::warn!(error, "the outbox does not answer, caches age");
                    }
                    failures += 1;
                    self.metrics.tail_failed();
                }
            }
        }
    }

    /// Who may still commit a version that was given out, if somebody wants to know. It comes before
    /// the question for changes, which then finds those of all who had ended.
    async fn look(&self) -> Option<(Look, Asked)> {
        let asked = self.settled.take_asked()?;
        // Why it failed the next question says too, and those who still want to know ask again.
        let look = self.outbox.look().await.ok()?;
        Some((look, asked))
    }

    /// Applies what has changed since `prev`. Where to go on.
    async fn round(&self, prev: Option<&Base>) -> Result<Base, OutboxError> {
        let seen = prev.map(|prev| &prev.snapshot);
        let first = self.outbox.unseen(seen, Cursor::default()).await?;
        let Some(prev) = prev else {
            self.progress.restart(first.sent_at);
            return Ok(first.base);
        };
        if let Some(gap) = prev.gap_to(&first.base) {
            self.lose_history();
            self.forget_all(gap.as_str(), first.sent_at);
            return Ok(first.base);
        }
        let mut applied = 0;
        let (mut changes, mut next) = (first.changes, first.next);
        loop {
            if changes.iter().any(|change| change.row.is_none()) {
                // Whatever came before, it is over with what is known of the table.
                self.forget_all("truncated", first.sent_at);
                return Ok(first.base);
            }
            applied += changes.len();
            self.apply(&changes);
            let Some(cursor) = next else { break };
            let page = self.outbox.unseen(seen, cursor).await?;
            if let Some(gap) = prev.gap_to(&page.base) {
                self.lose_history();
                self.forget_all(gap.as_str(), page.sent_at);
                return Ok(page.base);
            }
            if applied >= ROUND_MAX {
                self.forget_all("too_many", page.sent_at);
                return Ok(page.base);
            }
            (changes, next) = (page.changes, page.next);
        }
        // Not the newest page: a transaction with a low id may have committed after the first one.
        self.progress.caught_up(first.sent_at);
        self.metrics.tail_read(applied);
        Ok(first.base)
    }

    fn apply(&self, changes: &[Change]) {
        let entities = self.entities.read();
        let mut unconfirmed = Vec::new();
        let mut keys = Vec::new();
        for change in changes {
            let Some((id, key)) = &change.row else {
                continue;
            };
            for entity in entities.iter().filter(|entity| entity.source() == change.source) {
                let Some(key_text) = entity.key_text_of(id, key) else {
                    continue;
                };
                let waiting = entity.invalidation(&key_text, change.version);
                unconfirmed.extend(waiting.filter(|waiting| !self.is_told(waiting)));
                keys.push((entity, key_text, change.version));
            }
        }
        // First pending, then forgotten: a read that begins in between must not take the old
        // value from L2 after L1 has lost it.
        self.pending.add(unconfirmed, &self.dataset);
        for (entity, key_text, version) in keys {
            entity.forget(&key_text, Some(version));
            self.metrics.invalidated(entity.name(), "outbox", 1);
        }
    }

    /// Whether this process has told the data set that it reads from already, after its own write.
    fn is_told(&self, change: &Invalidation) -> bool {
        let announced = self.memory.of(&change.memory_key(), change.version);
        let trust = self.dataset.trust();
        announced.zip(trust).is_some_and(|(announced, trust)| announced.chain == trust.chain)
    }

    /// Versions that are known may be of commits that are lost, and no row will ever have them.
    fn lose_history(&self) {
        self.dataset.require_epoch(None, false);
        self.pending.clear();
        self.memory.lose_history();
    }

    /// Anything may have changed. Changes are followed from `instant` on.
    fn forget_all(&self, reason: &'static str, instant: Instant) {
        tracing::warn!(reason, "everything cached is forgotten");
        self.metrics.forgot(Forgotten::Everything, reason);
        self.dataset.require_epoch(None, false);
        self.snapshots.clear();
        self.local.clear();
        for entity in self.entities.read().iter() {
            entity.forget_pages();
        }
        self.settled.restart();
        self.progress.restart(instant);
    }
}
