//! The shared handle: typed commands on pipelined lanes.

use std::time::Duration;

use bytes::Bytes;

use crate::command::{Script, ScriptCall};
use crate::execute::execute;
use crate::idempotent::Spec;
use crate::request::{Packed, Request};
use crate::{RedisError, RedisPool, Reply};

const GET: Spec = Spec::repeatable("GET", &[]);
const MGET: Spec = Spec::repeatable("MGET", &[]);
const SET_PX: Spec = Spec::repeatable("SET", &["PX"]);
const DEL: Spec = Spec::repeatable("DEL", &[]);
const PTTL: Spec = Spec::repeatable("PTTL", &[]);
const PING: Spec = Spec::repeatable("PING", &[]);
/// Sent twice, a message would arrive twice.
const PUBLISH: Spec = Spec::once("PUBLISH");

/// Commands on connections shared by the whole process.
///
/// Commands of many callers travel together, so a command costs a fraction of a round trip. There
/// is no method for a command that blocks, that subscribes or that changes the connection's state,
/// because it would stop or change everybody's commands.
///
/// Commands of one task reach the server in the order in which they were first polled, as long as no
/// connection is lost meanwhile.
/// Cancel-safe: a dropped future leaves the connection usable; its command may have been executed.
#[derive(Debug, Clone)]
pub struct SharedRedis {
    pool: RedisPool,
    timeout: Duration,
}

impl SharedRedis {
    pub(crate) fn new(pool: RedisPool) -> Self {
        let timeout = pool.0.config.command_timeout;
        Self { pool, timeout }
    }

    /// The same handle with another time limit per command, retries included.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { pool: self.pool.clone(), timeout }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, RedisError> {
        self.one(GET, self.with_keys(GET, &[key])).await?.into_optional_bytes("GET")
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn mget<K: AsRef<str>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, RedisError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.one(MGET, self.with_keys(MGET, keys)).await?.into_list("MGET")?;
        values.into_iter().map(|value| value.into_optional_bytes("MGET")).collect()
    }

    /// Sets a key that expires after `ttl` (whole milliseconds, at least one).
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn set_px(
        &self,
        key: &str,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<(), RedisError> {
        let ttl_ms = ttl.as_millis().max(1).to_string();
        let prefix = self.prefix();
        let value = value.as_ref();
        let bytes = prefix.len() + key.len() + value.len() + "PX".len() + ttl_ms.len();
        let packed = Packed::new(SET_PX.name, 4, bytes).key(prefix, key).arg(value);
        self.one(SET_PX, packed.arg(b"PX").arg(ttl_ms.as_bytes())).await.map(drop)
    }

    /// Deletes keys; the number of those that existed.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn del<K: AsRef<str>>(&self, keys: &[K]) -> Result<u64, RedisError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let deleted = self.one(DEL, self.with_keys(DEL, keys)).await?.into_int("DEL")?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }

    /// Time until a key expires; `None` if it does not exist or never expires.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn pttl(&self, key: &str) -> Result<Option<Duration>, RedisError> {
        let left = self.one(PTTL, self.with_keys(PTTL, &[key])).await?.into_int("PTTL")?;
        Ok(u64::try_from(left).ok().map(Duration::from_millis))
    }

    /// Sends a message to a channel; the number of connections that received it.
    ///
    /// # Errors
    /// Any [`RedisError`]; [`RedisError::UnknownOutcome`] if the answer was lost.
    pub async fn publish(
        &self,
        channel: &str,
        message: impl AsRef<[u8]>,
    ) -> Result<u64, RedisError> {
        // A channel gets the prefix of a key: systems that share a server share its channels too.
        let packed = self.with_keys(PUBLISH, &[channel]).arg(message.as_ref());
        let receivers = self.one(PUBLISH, packed).await?.into_int("PUBLISH")?;
        Ok(u64::try_from(receivers).unwrap_or(0))
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.one(PING, Packed::new(PING.name, 0, 0)).await.map(drop)
    }

    /// Runs a script once.
    ///
    /// # Errors
    /// Any [`RedisError`]; [`RedisError::UnknownOutcome`] if the answer was lost and the script
    /// is not [`Script::idempotent`].
    pub async fn eval(&self, script: &Script, call: &ScriptCall) -> Result<Reply, RedisError> {
        let run = |spec: Spec, packed| {
            let request = Request::script(spec, script.summary(), packed);
            execute(&self.pool, request, self.timeout)
        };
        let (by_hash, by_text) = (script.spec("EVALSHA"), script.spec("EVAL"));
        match run(by_hash, script.by_hash(call, self.prefix())).await {
            // The server forgets scripts when it restarts. It refused this one without running it.
            Err(RedisError::Server { code, .. }) if code == "NOSCRIPT" => {
                run(by_text, script.by_text(call, self.prefix())).await?.into_one("EVAL")
            }
            answers => answers?.into_one("EVALSHA"),
        }
    }

    /// Runs a script several times in one pipeline; the answers are in the order of the calls.
    ///
    /// # Errors
    /// The outer error if there was no answer, the inner one if the server refused that one call.
    pub async fn eval_many(
        &self,
        script: &Script,
        calls: &[ScriptCall],
    ) -> Result<Vec<Result<Reply, RedisError>>, RedisError> {
        let Some((first, rest)) = calls.split_first() else {
            return Ok(Vec::new());
        };
        // The first call carries the text, so the others find the script on any server. That
        // costs a few hundred bytes a pipeline and saves the round trip to ask.
        let mut packed = vec![script.by_text(first, self.prefix())];
        packed.extend(rest.iter().map(|call| script.by_hash(call, self.prefix())));
        let request = Request::scripts(script.spec("EVALSHA"), script.summary(), packed);
        Ok(execute(&self.pool, request, self.timeout).await?.into_many("EVALSHA"))
    }

    async fn one(&self, spec: Spec, packed: Packed) -> Result<Reply, RedisError> {
        let request = Request::command(spec, packed);
        execute(&self.pool, request, self.timeout).await?.into_one(spec.name)
    }

    fn with_keys<K: AsRef<str>>(&self, spec: Spec, keys: &[K]) -> Packed {
        let prefix = self.prefix();
        let bytes = keys.iter().map(|key| prefix.len() + key.as_ref().len()).sum();
        let packed = Packed::new(spec.name, keys.len(), bytes);
        keys.iter().fold(packed, |packed, key| packed.key(prefix, key.as_ref()))
    }

    fn prefix(&self) -> &str {
        &self.pool.0.config.key_prefix
    }
}
