//! A connection for one caller alone.

use std::panic::Location;
use std::time::Duration;

use bb8_redis::bb8::{PooledConnection, RunError};
use bb8_redis::redis::Value;
use forebay_pooling::{Deadline, GateError, GatePermit};
use tokio::time::Instant;
use tracing::Instrument;

use crate::execute::server_error;
use crate::manager::RedisManager;
use crate::stats::add_one;
use crate::{Command, RedisError, RedisPool, Reply, span};

/// A connection leased to one caller, given back on drop.
///
/// It takes any command, also one that blocks. Dropped while a command is under way, for example
/// because the caller was cancelled, the connection is closed instead of given back: the next
/// caller would read the answer of a command that is not its own, and a blocked server would hand
/// an element to nobody.
#[derive(Debug)]
pub struct DedicatedRedis {
    // Dropped before the permit, so that whoever gets the permit finds the connection given back.
    connection: PooledConnection<'static, RedisManager>,
    pool: RedisPool,
    _permit: GatePermit,
}

impl DedicatedRedis {
    pub(crate) async fn lease(pool: &RedisPool) -> Result<Self, RedisError> {
        let inner = &pool.0;
        let deadline = Deadline::within(inner.config.connect_timeout);
        let turn = deadline.scope(inner.dedicated_gate.acquire(Location::caller())).await;
        let permit = turn.map_err(|refused| match refused {
            GateError::Shed { waiting, .. } => {
                add_one(&inner.counters.shed);
                RedisError::Shed { command: "LEASE", waiting }
            }
            GateError::Timeout { waited } => RedisError::Timeout { command: "LEASE", waited },
            GateError::Closed => RedisError::Draining,
        })?;
        let mut failures = inner.dedicated_manager.attempts().watch();
        failures.mark_unchanged();
        // bb8 goes on trying for the whole timeout and then only says that it ran out. Whoever
        // waits here learns of the first failed attempt, with its cause.
        let connection = tokio::select! {
            biased;
            connection = inner.dedicated.get_owned() => connection.map_err(|error| match error {
                RunError::User(_) | RunError::TimedOut => inner.dedicated_manager.unreachable(),
            })?,
            _ = failures.changed() => return Err(inner.dedicated_manager.unreachable()),
            () = tokio::time::sleep_until(deadline.instant()) => {
                return Err(inner.dedicated_manager.unreachable());
            }
        };
        Ok(Self { connection, pool: pool.clone(), _permit: permit })
    }

    /// Sends a command and waits up to `timeout` for its answer. For a command that blocks, the
    /// timeout must be longer than the time it may block.
    ///
    /// # Errors
    /// [`RedisError::UnknownOutcome`] if the answer did not come, after which the lease is good
    /// for nothing but being dropped; [`RedisError::Server`] if the server refused the command.
    pub async fn call(
        &mut self,
        command: &Command,
        timeout: Duration,
    ) -> Result<Reply, RedisError> {
        let name = command.name();
        let inner = &self.pool.0;
        if self.connection.poisoned {
            let address = inner.manager.address().to_string();
            return Err(RedisError::Unreachable { address, source: None });
        }
        let started = Instant::now();
        let deadline = Deadline::within(timeout);
        let span = span::of(name, inner.manager.address(), None, None);
        let encoded = command.encode(&inner.config.key_prefix);
        self.connection.poisoned = true;
        let sent = self.connection.inner.send_packed_command(&encoded).instrument(span.clone());
        let result = match tokio::time::timeout_at(deadline.instant(), sent).await {
            Ok(Ok(Value::ServerError(error))) => {
                self.connection.poisoned = false;
                Err(server_error(name, error.into()))
            }
            Ok(Ok(value)) => {
                self.connection.poisoned = false;
                Ok(Reply::from_value(value))
            }
            Ok(Err(source)) if source.code().is_some() => {
                self.connection.poisoned = false;
                Err(server_error(name, source))
            }
            Ok(Err(source)) => {
                add_one(&inner.counters.unknown_outcomes);
                Err(RedisError::UnknownOutcome { command: name, source: Some(source) })
            }
            Err(_elapsed) => {
                add_one(&inner.counters.timeouts);
                add_one(&inner.counters.unknown_outcomes);
                Err(RedisError::UnknownOutcome { command: name, source: None })
            }
        };
        if let Err(error) = &result {
            span::failed(&span, error);
        }
        inner.durations.record(name, started.elapsed(), result.as_ref().err());
        result
    }
}
