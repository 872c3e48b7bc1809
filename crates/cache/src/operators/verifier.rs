//! Checking a share of the hits against Postgres: is what was served as fresh as was promised?
//!
//! A read that began at `t` with a bound promises every change committed before `t - bound`. No
//! clock of another machine can say when a change was committed. But the tail keeps the snapshots
//! it has seen: all that is visible in one was committed before the answer that brought it. So a
//! change that is visible in a snapshot answered before `t - bound` belongs into the read, and one
//! with a version above what was served proves that the promise was broken. What cannot be proved
//! is not counted as broken: no alarm is false.
//!
//! The row itself is read first, by the loader. Only if it is not what was served, the outbox is
//! asked when it changed.

use std::sync::Arc;
use std::time::Duration;

use forebay_config::CacheConfig;
use forebay_pooling::{Deadline, Priority};
use forebay_postgres::PgPool;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::changes::outbox::{History, history};
use crate::changes::snapshots::{Seen, Snapshots};
use crate::entity_cache::EntityInner;
use crate::metrics::Metrics;
use crate::{Consistency, Entity, Loader, Lookup, Reach};

/// Hits that wait to be checked. One more is not checked.
const QUEUE_MAX: usize = 64;
/// Time that one check may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Chooses hits, and has them checked.
#[derive(Debug)]
pub(crate) struct Verifier {
    /// A hit is chosen if a number that is as good as random is below this.
    threshold: u32,
    queue: mpsc::Sender<Case>,
    snapshots: Arc<Snapshots>,
    metrics: Arc<Metrics>,
}

/// What a hit said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// The row in this version.
    Row(i64),
    /// There is no such row.
    Nothing,
}

/// One hit to be checked.
pub(crate) struct Sample {
    pub(crate) entity: &'static str,
    pub(crate) source: &'static str,
    pub(crate) key_text: String,
    pub(crate) served: Served,
    /// When the read began.
    pub(crate) began_at: Instant,
    pub(crate) bound: Duration,
    /// Reads the version of the row from the store; `None` if it could not be read.
    pub(crate) version: BoxFuture<'static, Option<Served>>,
}

/// A sample with the evidence against it.
struct Case {
    sample: Sample,
    seen: Seen,
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The row is as it was served.
    Confirmed,
    /// The row has changed, and nothing says that it had before the bound.
    Changed,
    /// A change that belonged into the read was not in it.
    Stale { version: i64 },
    /// The server forgot what the evidence was about.
    Unproven,
    /// A store did not answer.
    Failed,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Changed => "changed",
            Self::Stale { .. } => "stale",
            Self::Unproven => "unproven",
            Self::Failed => "failed",
        }
    }
}

impl Verifier {
    /// A verifier, and the task that does its work.
    pub(crate) fn new(
        config: &CacheConfig,
        postgres: PgPool,
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, samples) = mpsc::channel(QUEUE_MAX);
        let task = check_all(
            samples,
            config.verified_per_second_max,
            Arc::new(Judge { postgres, snapshots: Arc::clone(&snapshots) }),
            Arc::clone(&metrics),
        );
        let threshold = threshold(config.verify_share);
        (Self { threshold, queue, snapshots, metrics }, task)
    }

    /// Whether a read that ended as `count` others did before is to be checked. Called for every read:
    /// it must be cheap, and must not follow a pattern that reads follow too.
    pub(crate) fn chooses(&self, count: u64) -> bool {
        // Fibonacci hashing: the high bits of the product spread evenly.
        let mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        u32::try_from(mixed).unwrap_or(u32::MAX) < self.threshold
    }

    /// Has a hit checked, if there is evidence to check it by.
    pub(crate) fn submit(&self, sample: Sample) {
        let entity = sample.entity;
        let promised = sample.began_at.checked_sub(sample.bound);
        // Nothing was seen before that instant, as after a start.
        let Some(seen) = promised.and_then(|instant| self.snapshots.before(instant)) else {
            return self.metrics.verified(entity, Verdict::Unproven.as_str());
        };
        if self.queue.try_send(Case { sample, seen }).is_err() {
            self.metrics.verified(entity, "skipped");
        }
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// Whether a read that ended as `count` others did before is to be checked.
    pub(crate) fn is_checked(&self, count: u64) -> bool {
        // The history of a table does not tell which changes a page of it has to show.
        let is_row = E::REACH == Reach::Key;
        is_row && self.cache.verifier.chooses(count)
    }

    /// Has a hit of a read that began at `began_at` checked.
    pub(crate) fn have_verified(
        self: &Arc<Self>,
        key: &E::Key,
        lookup: &Lookup<E>,
        consistency: Consistency,
        began_at: Instant,
    ) {
        let (true, Some(bound)) = (lookup.outcome.is_hit(), self.bound(consistency)) else {
            return;
        };
        let served = |row: Option<i64>| row.map_or(Served::Nothing, Served::Row);
        // Not the entity itself: a sample must not keep a cache alive.
        let (entity, key_again) = (Arc::downgrade(self), key.clone());
        let version = async move {
            let entity = entity.upgrade()?;
            let rows = entity.loader.load_many(vec![key_again]).await.ok()?;
            Some(served(rows.first().map(|(_key, value)| E::version(value))))
        };
        self.cache.verifier.submit(Sample {
            entity: E::NAME,
            source: E::SOURCE,
            key_text: E::key_text(key),
            served: served(lookup.value.as_ref().map(|entry| entry.version)),
            began_at,
            bound,
            version: Box::pin(version),
        });
    }
}

/// The share of 2^32 that a ratio stands for.
fn threshold(share: f64) -> u32 {
    let mut threshold = 0_u32;
    let mut left = share.clamp(0.0, 1.0);
    for bit in (0..u32::BITS).rev() {
        left *= 2.0;
        if left >= 1.0 {
            threshold |= 1 << bit;
            left -= 1.0;
        }
    }
    if share >= 1.0 { u32::MAX } else { threshold }
}

/// Checks one sample after the other, not more than `per_second_max`. Ends with the cache.
async fn check_all(
    mut cases: mpsc::Receiver<Case>,
    per_second_max: u32,
    judge: Arc<Judge>,
    metrics: Arc<Metrics>,
) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second_max.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(Case { sample, seen }) = cases.recv().await {
        ticks.tick().await;
        let Sample { entity, source, key_text, served, began_at, bound, version } = sample;
        // A loader that panics ends the check and not the verifier.
        let checked = tokio::spawn({
            let (judge, seen, key_text) = (Arc::clone(&judge), seen.clone(), key_text.clone());
            async move { judge.check(source, &key_text, served, &seen, version).await }
        });
        let verdict = checked.await.unwrap_or(Verdict::Failed);
        metrics.verified(entity, verdict.as_str());
        if let Verdict::Stale { version } = verdict {
            let at_least = began_at.saturating_duration_since(seen.at);
            tracing::warn!(
                cache.entity = entity,
                key = key_text,
                served = ?served,
                version,
                stale_ms = u64::try_from(at_least.as_millis()).unwrap_or(u64::MAX),
                bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX),
                "a cached value was older than its bound allows"
            );
        }
    }
}

/// Compares what was served with what the stores say.
struct Judge {
    postgres: PgPool,
    snapshots: Arc<Snapshots>,
}

impl Judge {
    async fn check(
        &self,
        source: &str,
        key_text: &str,
        served: Served,
        seen: &Seen,
        version: BoxFuture<'static, Option<Served>>,
    ) -> Verdict {
        // Behind all who wait for an answer.
        let check = Box::pin(Priority::Batch.scope(async {
            let Some(stored) = version.await else { return Verdict::Failed };
            match (served, stored) {
                (Served::Nothing, Served::Nothing) => return Verdict::Confirmed,
                (Served::Row(served), Served::Row(stored)) if served >= stored => {
                    return Verdict::Confirmed;
                }
                (Served::Row(_) | Served::Nothing, Served::Row(_) | Served::Nothing) => {}
            }
            match history(&self.postgres, source, key_text, &seen.snapshot).await {
                Err(error) => {
                    tracing::debug!(error = %error, "a hit could not be checked");
                    Verdict::Failed
                }
                Ok(_) if !self.snapshots.holds(seen) => Verdict::Unproven,
                Ok(history) => judge(served, &history),
            }
        }));
        let check = Deadline::after(TIMEOUT).scope(check);
        tokio::time::timeout(TIMEOUT, check).await.unwrap_or(Verdict::Failed)
    }
}

fn judge(served: Served, history: &History) -> Verdict {
    let Some(newest) = history.newest_seen else { return Verdict::Changed };
    match served {
        // Versions of a key grow in the order of commits.
        Served::Row(version) if newest.version > version => {
            Verdict::Stale { version: newest.version }
        }
        Served::Row(_) => Verdict::Changed,
        // The row existed. Saying that it does not was right only if it was deleted afterwards.
        Served::Nothing => {
            let deleted_after =
                history.newest_deletion.is_some_and(|deletion| deletion > newest.version);
            if newest.is_deletion || deleted_after {
                Verdict::Changed
            } else {
                Verdict::Stale { version: newest.version }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! What follows from what was served and what is known to have been committed.

    use super::*;
    use crate::changes::outbox::SeenChange;

    #[test]
    fn only_what_is_proved_is_stale() {
        let seen = |version, is_deletion| Some(SeenChange { version, is_deletion });
        let stale = |version| Verdict::Stale { version };
        let cases = [
            ("nothing was seen", Served::Row(5), None, None, Verdict::Changed),
            ("changed later", Served::Row(5), seen(5, false), None, Verdict::Changed),
            ("changed before", Served::Row(5), seen(6, false), None, stale(6)),
            ("deleted before", Served::Row(5), seen(6, true), Some(6), stale(6)),
            ("served newer", Served::Row(7), seen(6, false), None, Verdict::Changed),
            ("created before", Served::Nothing, seen(6, false), None, stale(6)),
            (
                "deleted before, created later",
                Served::Nothing,
                seen(6, true),
                Some(6),
                Verdict::Changed,
            ),
            ("deleted later", Served::Nothing, seen(6, false), Some(7), Verdict::Changed),
            ("deleted long before", Served::Nothing, seen(6, false), Some(4), stale(6)),
        ];
        for (what, served, newest_seen, newest_deletion, expected) in cases {
            let history = History { newest_seen, newest_deletion };
            assert_eq!(judge(served, &history), expected, "{what}");
        }
    }

    #[test]
    fn the_share_is_kept() {
        let share = |share: f64, reads: u64| {
            let threshold = threshold(share);
            let chosen = (0..reads).filter(|count| {
                let mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                u32::try_from(mixed).expect("32 bits") < threshold
            });
            chosen.count()
        };
        assert_eq!(share(0.0, 100_000), 0);
        assert_eq!(share(1.0, 100_000), 100_000);
        let thousandth = share(0.001, 1_000_000);
        assert!((900..=1_100).contains(&thousandth), "{thousandth}");
    }
}
