//! L2: one Redis string per key, written only by scripts that compare versions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_redis::{RedisError, RedisPool, Reply, Script, ScriptCall, SharedRedis};
use parking_lot::Mutex;

use crate::breaker::Breaker;
use crate::link::{Link, Trust};
use crate::metrics::Metrics;
use crate::wire::{self, Epoch, Stored};

/// How long a tombstone is kept. It must outlive every fill that began before the change; fills
/// older than `FILL_AGE_MAX` are not sent.
const TOMBSTONE_TTL: Duration = Duration::from_secs(120);
/// A fill whose read began longer ago than this is not stored in L2.
pub(crate) const FILL_AGE_MAX: Duration = Duration::from_secs(30);
/// Time a script of the background may take. Nobody waits for it.
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(2);
/// The channel of the announcements, of all entities and services.
const CHANNEL: &str = "cache:invalidations";
/// The key of the epoch that is in force.
const EPOCH_KEY: &str = "cache:epoch";

/// `KEYS: epoch, entry. ARGV: expected epoch, version, value, milliseconds to live.`
/// One if stored, -1 if a newer version or tombstone is there, -2 if the epoch has changed.
const FILL: &str = r"
if redis.call('GETRANGE', KEYS[1], 0, 15) ~= ARGV[1] then return -2 end
local stored = redis.pcall('GETRANGE', KEYS[2], 0, 16)
local known = type(stored) == 'string' and #stored == 17 and string.find(stored, '^[VNT]%x+$')
if known and string.sub(stored, 2) > ARGV[2] then return -1 end
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
return 1";

/// `KEYS: entry. ARGV: version, milliseconds of a tombstone, channel, message, force.`
/// Replaces an older entry by a tombstone (with force, also an entry of the same or a newer
/// version, which it keeps) and announces the change. Both or neither: nobody can see the tombstone
/// before the announcement is on its way, and the announcement cannot be lost between the two. A
/// server that is out of memory refuses to set a tombstone; then the entry is deleted.
const INVALIDATE: &str = r"
local stored = redis.pcall('GETRANGE', KEYS[1], 0, 16)
local version = ARGV[1]
local known = type(stored) == 'string' and #stored == 17 and string.find(stored, '^[VNT]%x+$')
if known and string.sub(stored, 2) > version then version = string.sub(stored, 2) end
if ARGV[5] == '1' or not known or string.sub(stored, 2) < ARGV[1] then
  local set = redis.pcall('SET', KEYS[1], 'T' .. version, 'PX', ARGV[2])
  if type(set) == 'table' and set.err then redis.call('DEL', KEYS[1]) end
end
return redis.call('PUBLISH', ARGV[3], ARGV[4])";

/// `KEYS: epoch. ARGV: a fresh epoch, force, channel, message or nothing.`
/// Puts the fresh epoch in force if forced, if there is none, or if the server was restarted since,
/// because it may then have come back with old entries. The epoch in force.
const SYNCHRONIZE: &str = r"
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
local stored = redis.call('GET', KEYS[1])
if ARGV[2] ~= '1' and stored and string.sub(stored, 17) == ':' .. run then
  return string.sub(stored, 1, 16)
end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. run)
if ARGV[4] ~= '' then redis.call('PUBLISH', ARGV[3], ARGV[4]) end
return ARGV[1]";

/// `ARGV: pattern, cursor, keys to look at, milliseconds of a tombstone.`
/// One step of turning all entries of an entity into tombstones of their versions, so that fills
/// under way of older ones stay shut out. The next cursor, or zero at the end.
const CLEAR: &str = r"
local found = redis.call('SCAN', ARGV[2], 'MATCH', ARGV[1], 'COUNT', ARGV[3])
for _, key in ipairs(found[2]) do
  local stored = redis.pcall('GETRANGE', key, 0, 16)
  if type(stored) == 'string' and #stored == 17 and string.find(stored, '^[VNT]%x+$') then
    if string.sub(stored, 1, 1) ~= 'T' then
      local set = redis.pcall('SET', key, 'T' .. string.sub(stored, 2), 'PX', ARGV[4])
      if type(set) == 'table' and set.err then redis.call('DEL', key) end
    end
  else
    redis.call('DEL', key)
  end
end
return found[1]";
/// Keys that one step of clearing looks at: well under a millisecond of the server.
const CLEAR_STEP: &str = "500";

/// L2 of one process.
#[derive(Debug)]
pub(crate) struct Remote {
    pool: RedisPool,
    quick: SharedRedis,
    patient: SharedRedis,
    breaker: Breaker,
    link: Arc<Link>,
    metrics: Arc<Metrics>,
    fill: Script,
    invalidate: Script,
    synchronize: Script,
    clear: Script,
    last_epoch: Mutex<Option<Epoch>>,
}

/// What L2 holds for some keys, in their order.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) epoch: Epoch,
    pub(crate) stored: Vec<Option<Stored>>,
    pub(crate) trust: Trust,
}

/// One entry to be stored.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: Duration,
}

/// What became of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Stored,
    /// A newer version or tombstone is there: what was read is out of date.
    Outdated,
    /// Not stored for any other reason.
    Dropped,
}

/// One change to be announced.
#[derive(Debug, Clone)]
pub(crate) struct Invalidation {
    pub(crate) key: String,
    pub(crate) version: i64,
    pub(crate) message: Bytes,
    pub(crate) force: bool,
}

impl Remote {
    pub(crate) fn new(
        pool: RedisPool,
        timeout: Duration,
        link: Arc<Link>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            quick: pool.shared().with_timeout(timeout),
            patient: pool.shared().with_timeout(BACKGROUND_TIMEOUT),
            pool,
            // Half of the time that a call may take.
            breaker: Breaker::new(timeout / 2),
            link,
            metrics,
            fill: Script::new("cache_fill", FILL).idempotent(),
            invalidate: Script::new("cache_invalidate", INVALIDATE).idempotent(),
            synchronize: Script::new("cache_synchronize", SYNCHRONIZE).idempotent(),
            clear: Script::new("cache_clear", CLEAR).idempotent(),
            last_epoch: Mutex::new(None),
        }
    }

    /// The key of an entry.
    pub(crate) fn entry_key(entity: &str, key_text: &str) -> String {
        ["cache:", entity, ":", key_text].concat()
    }

    pub(crate) fn channel() -> &'static str {
        CHANNEL
    }

    /// Reads entries with one command. `None` if L2 cannot be used or trusted now.
    ///
    /// The epoch travels with the entries in the same command, so that an entry can be judged by
    /// the epoch that was in force when it was read.
    pub(crate) async fn read(&self, keys: Vec<String>) -> Option<Found> {
        let trust = self.link.trust(self.pool.replaced_connections())?;
        let call = self.breaker.call()?;
        let count = keys.len();
        let mut names = Vec::with_capacity(count + 1);
        names.push(EPOCH_KEY.to_owned());
        names.extend(keys);
        let answer = self.quick.mget(&names).await;
        match &answer {
            Ok(_) => call.answered(),
            Err(_) => call.failed(),
        }
        let mut values = self.counted("read", answer)?.into_iter();
        let Some(epoch) = values.next().flatten().and_then(|stored| Epoch::parse(&stored)) else {
            // The server lost its data. Entries can be told right from wrong again once an epoch
            // is in force.
            self.link.check_l2();
            return None;
        };
        *self.last_epoch.lock() = Some(epoch);
        if !self.still_trusted(trust) {
            return None;
        }
        let stored: Vec<_> = values.map(|value| value.as_ref().and_then(wire::decode)).collect();
        (stored.len() == count).then_some(Found { epoch, stored, trust })
    }

    /// Whether nothing happened to Redis since `trust` was given.
    pub(crate) fn still_trusted(&self, trust: Trust) -> bool {
        self.link.trust(self.pool.replaced_connections()) == Some(trust)
    }

    /// Stores entries with one pipeline, each unless something newer is there.
    pub(crate) async fn fill(&self, epoch: Epoch, fills: &[Fill]) -> Vec<Filled> {
        let Some(call) = self.breaker.call() else {
            return vec![Filled::Dropped; fills.len()];
        };
        let calls: Vec<_> = fills
            .iter()
            .map(|fill| {
                ScriptCall::new()
                    .key(EPOCH_KEY)
                    .key(fill.key.as_str())
                    .arg(epoch.as_bytes())
                    .arg(wire::version_text(fill.version))
                    .arg(&fill.value)
                    .arg(fill.ttl.as_millis().max(1).to_string())
            })
            .collect();
        let answer = self.quick.eval_many(&self.fill, &calls).await;
        match &answer {
            Ok(_) => call.worked(),
            Err(_) => call.failed(),
        }
        let Some(answers) = self.counted("fill", answer) else {
            return vec![Filled::Dropped; fills.len()];
        };
        answers
            .into_iter()
            .map(|answer| match self.counted("fill", answer) {
                Some(Reply::Int(1)) => Filled::Stored,
                Some(Reply::Int(-1)) => Filled::Outdated,
                _ => Filled::Dropped,
            })
            .collect()
    }

    /// Writes tombstones and announces them, with one pipeline. Whether each was done.
    pub(crate) async fn invalidate(&self, changes: &[Invalidation]) -> Vec<bool> {
        let channel = self.pool.prefixed(CHANNEL);
        let tombstone_ms = TOMBSTONE_TTL.as_millis().to_string();
        let calls: Vec<_> = changes
            .iter()
            .map(|change| {
                ScriptCall::new()
                    .key(change.key.as_str())
                    .arg(wire::version_text(change.version))
                    .arg(&tombstone_ms)
                    .arg(&channel)
                    .arg(&change.message)
                    .arg(if change.force { "1" } else { "0" })
            })
            .collect();
        match self.counted("invalidate", self.patient.eval_many(&self.invalidate, &calls).await) {
            None => vec![false; changes.len()],
            Some(answers) => answers
                .into_iter()
                .map(|answer| self.counted("invalidate", answer).is_some())
                .collect(),
        }
    }

    /// Makes sure that an epoch is in force; with `force`, a new one, announced with `message` if
    /// there is one. Whether it is.
    pub(crate) async fn synchronize(&self, force: bool, message: Option<&[u8]>) -> bool {
        let call = ScriptCall::new()
            .key(EPOCH_KEY)
            .arg(Epoch::fresh().as_bytes())
            .arg(if force { "1" } else { "0" })
            .arg(self.pool.prefixed(CHANNEL))
            .arg(message.unwrap_or_default());
        let answer = self.patient.eval(&self.synchronize, &call).await;
        self.counted("synchronize", answer).is_some()
    }

    /// Turns all entries of an entity into tombstones, step by step, with other commands in between.
    /// Whether it came to the end.
    pub(crate) async fn clear(&self, entity: &str) -> bool {
        let pattern = glob_escaped(&self.pool.prefixed(&Self::entry_key(entity, ""))) + "*";
        let tombstone_ms = TOMBSTONE_TTL.as_millis().to_string();
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let call =
                ScriptCall::new().arg(&pattern).arg(&cursor).arg(CLEAR_STEP).arg(&tombstone_ms);
            let answer = self.counted("clear", self.patient.eval(&self.clear, &call).await);
            match answer {
                Some(Reply::Bytes(next)) if next.as_ref() == b"0" => return true,
                Some(Reply::Bytes(next)) => cursor = next,
                _ => return false,
            }
        }
    }

    /// Sends an announcement that belongs to no entry. Whether Redis has it.
    pub(crate) async fn announce(&self, message: &[u8]) -> bool {
        self.counted("announce", self.patient.publish(CHANNEL, message).await).is_some()
    }

    /// The epoch that was in force when L2 was last read.
    pub(crate) fn last_epoch(&self) -> Option<String> {
        self.last_epoch.lock().map(Epoch::to_text)
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

    pub(crate) fn replaced_connections(&self) -> u64 {
        self.pool.replaced_connections()
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

/// The text as a pattern that matches it alone.
fn glob_escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern
}
