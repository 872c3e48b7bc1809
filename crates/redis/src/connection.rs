//! One connection, and the checks it must pass before it is used.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::{self, ErrorKind, Value};
use tokio::time::Instant;

use crate::error::NOT_READY;
use crate::signal::Signal;

/// What the ready check says of a server that loads its data.
const LOADING: &str = "the server is loading its data";
/// And of one that takes no writes.
const REPLICA: &str = "the server is a replica";
/// An idle connection that was used this recently is given out without a check.
const ALIVE_BYPASS: Duration = Duration::from_millis(500);
/// Time the check of an idle connection may take.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection.
#[derive(Debug)]
pub(crate) struct RedisConnection {
    pub(crate) inner: MultiplexedConnection,
    pub(crate) closed: Arc<Signal>,
    /// Set while a command is under way: dropped in this state, the connection is not used again.
    pub(crate) poisoned: bool,
    /// Set while it is checked: a check that was cancelled has proven nothing.
    validating: bool,
    pub(crate) used_at: Instant,
}

impl RedisConnection {
    pub(crate) fn new(inner: MultiplexedConnection, closed: Arc<Signal>) -> Self {
        Self { inner, closed, poisoned: false, validating: false, used_at: Instant::now() }
    }

    /// Asks an idle connection for a sign of life.
    pub(crate) async fn validate(&mut self) -> Result<(), redis::RedisError> {
        if self.used_at.elapsed() < ALIVE_BYPASS && !self.is_broken() {
            return Ok(());
        }
        self.validating = true;
        let ping = redis::cmd("PING");
        let answer = ping.query_async::<Value>(&mut self.inner);
        let answer = tokio::time::timeout(VALIDATION_TIMEOUT, answer).await;
        let answer = answer.unwrap_or_else(|_elapsed| {
            Err((ErrorKind::Io, "an idle connection gave no sign of life").into())
        });
        // After a failure the flag stays: bb8 throws the connection away in any case.
        answer?;
        self.validating = false;
        Ok(())
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.poisoned || self.validating || self.closed.is_raised()
    }

    pub(crate) async fn set_name(&mut self, name: &str) -> Result<(), redis::RedisError> {
        let command = redis::cmd("CLIENT").arg("SETNAME").arg(name).to_owned();
        match command.query_async::<Value>(&mut self.inner).await {
            Err(error) if error.code() == Some("NOPERM") => {
                tracing::debug!(error = %error, "a connection keeps its default name");
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// A server that is loading its data or that is a replica would refuse what we are about to
    /// send. A server that does not tell is taken as it is.
    pub(crate) async fn check_ready(&mut self) -> Result<(), redis::RedisError> {
        let info = redis::cmd("INFO")
            .arg("persistence")
            .query_async::<Option<String>>(&mut self.inner)
            .await;
        let info = match info {
            Err(error) if is_unknown_or_forbidden(&error) => None,
            other => other?,
        };
        if info.is_some_and(|text| text.lines().any(|line| line.trim_end() == "loading:1")) {
            return Err((ErrorKind::Io, LOADING).into());
        }
        match redis::cmd("ROLE").query_async::<Value>(&mut self.inner).await {
            Err(error) if is_unknown_or_forbidden(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(Value::Array(role)) if is_replica(&role) => Err((ErrorKind::Io, REPLICA).into()),
            Ok(_) => Ok(()),
        }
    }
}

/// Whether the server is there and failed the ready check.
pub(crate) fn is_not_ready(error: &redis::RedisError) -> bool {
    let words = error.to_string();
    words.starts_with(LOADING)
        || words.starts_with(REPLICA)
        || error.code().is_some_and(|code| NOT_READY.contains(&code))
}

/// Hosted servers lack commands, or forbid them.
fn is_unknown_or_forbidden(error: &redis::RedisError) -> bool {
    match error.code() {
        Some("NOPERM") => true,
        Some("ERR") => error.detail().is_some_and(|text| text.starts_with("unknown command")),
        _ => false,
    }
}

/// Whether an answer to `ROLE` is that of a replica.
pub(crate) fn is_replica(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(name)) if name.as_slice() == b"slave")
}

#[cfg(test)]
mod tests {
    //! What a check that did not finish says about a connection.

    use std::time::Duration;

    use bb8_redis::bb8::ManageConnection;
    use forebay_testkit::{PrivateRedis, redis_config};

    use super::ALIVE_BYPASS;
    use crate::manager::RedisManager;

    /// Fails when a check that was cancelled leaves no trace: bb8 then gives the silent connection
    /// to the next caller, and to the next.
    #[tokio::test]
    async fn a_connection_whose_check_was_cancelled_is_broken() {
        let server = PrivateRedis::start();
        let config = redis_config(&server.url(), "");
        let manager = RedisManager::new(&config).expect("settings").for_leases();
        let mut connection = manager.connect().await.expect("connects");
        connection.used_at -= ALIVE_BYPASS;
        manager.is_valid(&mut connection).await.expect("it answers");
        assert!(!manager.has_broken(&mut connection));
        server.stop();
        let check = manager.is_valid(&mut connection);
        let checked = tokio::time::timeout(Duration::from_millis(50), check).await;
        assert!(checked.is_err(), "nobody answers, so only the caller's time ends it");
        assert!(manager.has_broken(&mut connection));
        server.cont();
    }
}
