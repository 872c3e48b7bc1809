//! L2: one Redis string per key, written only by scripts that compare versions.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use forebay_config::CacheConfig;
use forebay_redis::{RedisError, RedisPool, Reply, Script, ScriptCall, SharedRedis};

use crate::changes::pending::Pending;
use crate::l2::breaker::{Breaker, Call};
use crate::l2::dataset::{Dataset, Trust};
use crate::l2::protocol::{is_known, is_usable};
use crate::l2::scripts;
use crate::l2::wire::{self, Content, Epoch, Stored};
use crate::metrics::Metrics;

pub(crate) use crate::l2::space::Space;
pub(crate) use fills::{Fill, Filled};
pub(crate) use steps::{Claim, Step, Synchronized, TOMBSTONE_TTL, Told};

mod collect;
mod fills;
mod hot;
mod steps;

/// Time a script of the background may take. Nobody waits for it.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// The stream of announcements, of all entities and services.
pub(crate) const LOG_KEY: &str = "cache-log";

fn lease_key(entry_key: &str) -> String {
    [entry_key, ":lease"].concat()
}

/// L2 of one process.
#[derive(Debug)]
pub(crate) struct Remote {
    quick: SharedRedis,
    patient: SharedRedis,
    breaker: Breaker,
    dataset: Arc<Dataset>,
    pending: Arc<Pending>,
    metrics: Arc<Metrics>,
    lease_ttl: Duration,
    lease_wait: Duration,
    lease: Script,
    fill: Script,
    invalidate: Script,
    adopt: Script,
    claim: Script,
    synchronize: Script,
    collect: Script,
    heat: Script,
    hottest: Script,
}

/// What L2 holds for some keys, in their order.
#[derive(Debug)]
pub(crate) struct Found {
    /// What entries must carry: the epoch, or of a list the collection in force.
    pub(crate) epoch: Epoch,
    pub(crate) seen: Vec<Seen>,
    /// Whether somebody fills the entry, if that was asked.
    pub(crate) leased: Vec<bool>,
}

/// What L2 holds for a key.
#[derive(Debug)]
pub(crate) enum Seen {
    Nothing,
    /// An entry that may be served.
    Usable(Stored),
    /// The row changed to this version and nobody has read it since.
    Tombstone(i64),
    /// An entry that must not be served: of another epoch, or older than a change.
    Unusable(i64),
    /// Something that nobody wrote so.
    Damaged,
}

/// What a request for a lease says of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum There {
    /// Nothing that could be served was there. If it is now, there is no need to fill.
    Nothing,
    /// It cannot be served and is to be replaced.
    Unusable,
    /// It is to be deleted: not even its version can be believed.
    Damaged,
    /// It may be served, and is to be replaced before it expires, unless it was filled at another
    /// time than this one.
    Due(u64),
}

impl There {
    /// As the script wants it.
    fn to_argument(self) -> Cow<'static, str> {
        match self {
            Self::Nothing => "0".into(),
            Self::Unusable => "1".into(),
            Self::Damaged => "2".into(),
            Self::Due(filled_at_ms) => ["3", &wire::filled_at_text(filled_at_ms)].concat().into(),
        }
    }
}

/// What a request for a lease was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lease {
    /// It is the caller's turn to fill the entry. The version is that of the tombstone, or zero.
    Granted { version: i64, lease: String },
    /// Somebody filled it meanwhile.
    Filled,
    /// Somebody else is about to fill it; it is the turn of another one after this time.
    Held { ripe_in: Duration },
}

impl Remote {
    pub(crate) fn new(
        pool: &RedisPool,
        config: &CacheConfig,
        dataset: &Arc<Dataset>,
        pending: &Arc<Pending>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let script = |summary, text| Script::new(summary, text).idempotent();
        Self {
            quick: pool.shared().with_timeout(config.l2_timeout),
            patient: pool.shared().with_timeout(BACKGROUND_TIMEOUT),
            // Half of the time that a call may take.
            breaker: Breaker::new(config.l2_timeout / 2),
            dataset: Arc::clone(dataset),
            pending: Arc::clone(pending),
            metrics: Arc::clone(metrics),
            lease_ttl: config.lease_ttl,
            lease_wait: config.lease_wait,
            lease: script("cache_lease", scripts::LEASE),
            fill: script("cache_fill", scripts::FILL),
            invalidate: script("cache_invalidate", scripts::INVALIDATE),
            adopt: script("cache_adopt", scripts::ADOPT),
            claim: script("cache_claim", scripts::CLAIM),
            synchronize: script("cache_synchronize", scripts::SYNCHRONIZE),
            collect: script("cache_collect", scripts::COLLECT),
            heat: script("cache_heat", scripts::HEAT),
            hottest: script("cache_hottest", scripts::HOTTEST),
        }
    }

    /// How long others wait at least for whoever has a lease.
    pub(crate) fn lease_wait(&self) -> Duration {
        self.lease_wait
    }

    pub(crate) fn lease_ttl(&self) -> Duration {
        self.lease_ttl
    }

    /// Reads entries with one command, with their leases if asked. `None` if L2 cannot be used or
    /// trusted now.
    ///
    /// The epoch and the mark travel with the entries in the same command, so that the entries are
    /// judged by the data set that they come from.
    pub(crate) async fn read(
        &self,
        space: Space,
        entry_keys: &[&str],
        with_leases: bool,
    ) -> Option<Found> {
        // In this order: a change that does not wait any more is covered by the mark.
        let waits_for: Vec<_> = entry_keys.iter().map(|key| self.pending.version_of(key)).collect();
        if space.is_list && self.pending.contains(&space.collection_key()) {
            // Nobody knows which of the pages the change is on.
            return None;
        }
        let trust = self.dataset.trust()?;
        let (epoch, mark) = (*trust.epochs.get(&space.id)?, trust.mark());
        let call = self.breaker.call()?;
        let mut names = Vec::with_capacity(2 * entry_keys.len() + 3);
        names.extend([Cow::Owned(space.epoch_key()), Cow::Owned(trust.chain.mark_key())]);
        names.extend(space.is_list.then(|| Cow::Owned(space.collection_key())));
        names.extend(entry_keys.iter().map(|key| Cow::Borrowed(*key)));
        if with_leases {
            names.extend(entry_keys.iter().map(|key| Cow::Owned(lease_key(key))));
        }
        let expected = names.len();
        let answer = self.quick.mget(&names).await;
        match &answer {
            Ok(_) => call.answered(),
            Err(_) => call.failed(),
        }
        let values = self.counted("read", answer)?;
        if values.len() != expected {
            return None;
        }
        let mut values = values.into_iter();
        let found_epoch = values.next().flatten().and_then(|stored| Epoch::parse(&stored));
        let found_mark = values.next().flatten().as_deref().and_then(number);
        if !is_known((epoch, mark), found_epoch, found_mark) {
            self.dataset.lost(&trust);
            return None;
        }
        let in_force = if space.is_list {
            let collection = values.next().flatten();
            match collection.and_then(|stored| collect::parse(&stored)) {
                Some(collection) => collection,
                None => self.collect(space).await?,
            }
        } else {
            epoch
        };
        let seen = entry_keys
            .iter()
            .zip(waits_for)
            .map(|(_, waits_for)| see(values.next().flatten(), (in_force, waits_for)))
            .collect();
        Some(Found { epoch: in_force, seen, leased: values.map(|lease| lease.is_some()).collect() })
    }

    /// Asks for leases with one pipeline; for each key what was found there. Whoever has one and is
    /// not done with `patience` has it no more to himself. `None` if L2 cannot be used now.
    pub(crate) async fn lease(
        &self,
        space: Space,
        (epoch, token): (Epoch, &str),
        patience: Duration,
        entries: &[(String, There)],
    ) -> Option<Vec<Lease>> {
        let call = self.breaker.call()?;
        let (px, patience) = (millis(self.lease_ttl), millis(patience));
        let calls: Vec<_> = entries
            .iter()
            .map(|(entry_key, there)| {
                ScriptCall::new()
                    .key(space.fence_key())
                    .key(entry_key.as_str())
                    .key(lease_key(entry_key))
                    .arg(epoch.as_bytes())
                    .arg(token)
                    .arg(&px)
                    .arg(there.to_argument().as_ref())
                    .arg(&patience)
            })
            .collect();
        let answer = self.quick.eval_many(&self.lease, &calls).await;
        worked(call, &answer);
        let answers = self.counted("lease", answer)?;
        answers.into_iter().map(|answer| lease_of(&self.counted("lease", answer)?)).collect()
    }

    /// The epochs that this process knows, for an operator.
    pub(crate) fn last_epoch(&self) -> Option<String> {
        let trust = self.dataset.trust()?;
        let mut epochs: Vec<_> = trust.epochs.values().map(|epoch| epoch.to_text()).collect();
        epochs.sort();
        epochs.dedup();
        Some(epochs.join(" "))
    }

    pub(crate) fn breaker_state(&self) -> &'static str {
        self.breaker.state()
    }

    /// One entry as it is stored and its time to live, for an operator.
    pub(crate) async fn inspect(
        &self,
        key: &str,
    ) -> Result<Option<(Bytes, Option<Duration>)>, RedisError> {
        let Some(stored) = self.patient.get(key).await? else {
            return Ok(None);
        };
        Ok(Some((stored, self.patient.pttl(key).await?)))
    }

    /// The answer, or a counted failure.
    fn counted<T>(&self, operation: &'static str, answer: Result<T, RedisError>) -> Option<T> {
        answer
            .inspect_err(|error| {
                self.metrics.l2_failed(operation, error.kind());
                tracing::debug!(error = %error, operation, "the cache goes on without redis");
            })
            .ok()
    }
}

/// Pipelines take as long as they are, so their time says nothing.
fn worked<T>(call: Call<'_>, answer: &Result<T, RedisError>) {
    match answer {
        Ok(_) => call.worked(),
        Err(_) => call.failed(),
    }
}

/// What a stored value is worth.
fn see(stored: Option<Bytes>, (epoch, waits_for): (Epoch, Option<i64>)) -> Seen {
    let Some(stored) = stored else { return Seen::Nothing };
    let Some(stored) = wire::decode(&stored) else { return Seen::Damaged };
    let entry_epoch = match &stored.content {
        Content::Tombstone => return Seen::Tombstone(stored.version),
        Content::Value { header, .. } | Content::Negative { header } => header.epoch,
    };
    if is_usable((epoch, waits_for), entry_epoch, stored.version) {
        Seen::Usable(stored)
    } else {
        // A version of another epoch says nothing: its history may be another one.
        Seen::Unusable(if entry_epoch == epoch { stored.version } else { 0 })
    }
}

fn lease_of(reply: &Reply) -> Option<Lease> {
    let Reply::List(parts) = reply else { return None };
    let [Reply::Int(code), Reply::Bytes(tombstone), Reply::Bytes(lease)] = parts.as_slice() else {
        return None;
    };
    match code {
        0 => {
            let version = wire::decode(tombstone).map_or(0, |tombstone| tombstone.version);
            Some(Lease::Granted { version, lease: str::from_utf8(lease).ok()?.to_owned() })
        }
        1 => Some(Lease::Filled),
        2 => Some(Lease::Held { ripe_in: Duration::from_millis(number(lease)?) }),
        _ => None,
    }
}

fn number(stored: &[u8]) -> Option<u64> {
    str::from_utf8(stored).ok()?.parse().ok()
}

fn millis(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}
