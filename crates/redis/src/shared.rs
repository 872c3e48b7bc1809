//! The shared handle: typed commands on pipelined lanes.

use std::time::Duration;

use bytes::Bytes;

use crate::command::{Command, Script, ScriptCall};
use crate::execute::{Request, execute};
use crate::{RedisError, RedisPool, Reply};

/// Commands on connections shared by the whole process.
///
/// Commands of many callers travel together, so a command costs a fraction of a round trip. There
/// is no method for a command that blocks, that subscribes or that changes the connection's state,
/// because it would stop or change everybody's commands.
///
/// Commands whose last key is the same keep their order while all lanes are connected and none is
/// replaced.
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
        self.one(Command::new("GET").key(key).idempotent()).await?.into_optional_bytes("GET")
    }

    /// The values of several keys, in their order.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn mget<K: AsRef<str>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, RedisError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let command = keys.iter().fold(Command::new("MGET"), |command, key| command.key(key));
        let values = self.one(command.idempotent()).await?.into_list("MGET")?;
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
        let command = Command::new("SET").key(key).arg(value).word("PX").arg(ttl_ms);
        self.one(command.idempotent()).await.map(drop)
    }

    /// Deletes keys; the number of those that existed.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn del<K: AsRef<str>>(&self, keys: &[K]) -> Result<u64, RedisError> {
        if keys.is_empty() {
            return Ok(0);
        }
        let command = keys.iter().fold(Command::new("DEL"), |command, key| command.key(key));
        let deleted = self.one(command.idempotent()).await?.into_int("DEL")?;
        Ok(u64::try_from(deleted).unwrap_or(0))
    }

    /// Time until a key expires; `None` if it does not exist or never expires.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn pttl(&self, key: &str) -> Result<Option<Duration>, RedisError> {
        let left = self.one(Command::new("PTTL").key(key).idempotent()).await?.into_int("PTTL")?;
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
        let command = Command::new("PUBLISH").key(channel).arg(message);
        let receivers = self.one(command).await?.into_int("PUBLISH")?;
        Ok(u64::try_from(receivers).unwrap_or(0))
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// Any [`RedisError`].
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.one(Command::new("PING").idempotent()).await.map(drop)
    }

    /// Runs a script once.
    ///
    /// # Errors
    /// Any [`RedisError`]; [`RedisError::UnknownOutcome`] if the answer was lost and the script
    /// is not [`Script::idempotent`].
    pub async fn eval(&self, script: &Script, call: &ScriptCall) -> Result<Reply, RedisError> {
        let request = Request::script(script.by_hash(call), script.summary());
        match execute(&self.pool, request, self.timeout).await {
            // The server forgets scripts when it restarts. It refused this one without running it.
            Err(RedisError::Server { code, .. }) if code == "NOSCRIPT" => {
                let request = Request::script(script.by_text(call), script.summary());
                execute(&self.pool, request, self.timeout).await?.into_one("EVAL")
            }
            other => other?.into_one("EVALSHA"),
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
        let mut commands = vec![script.by_text(first)];
        commands.extend(rest.iter().map(|call| script.by_hash(call)));
        let request = Request::pipeline(commands, script.summary());
        Ok(execute(&self.pool, request, self.timeout).await?.into_many("EVALSHA"))
    }

    async fn one(&self, command: Command) -> Result<Reply, RedisError> {
        let name = command.name();
        execute(&self.pool, Request::command(command), self.timeout).await?.into_one(name)
    }
}
