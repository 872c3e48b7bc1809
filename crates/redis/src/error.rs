//! Why a Redis operation failed, as a type a caller can act on.

use std::time::Duration;

use bb8_redis::redis;

/// Why a Redis operation failed. The message never repeats the cause: walk `source()` for it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The settings do not describe a Redis server.
    #[error("the Redis settings are not usable")]
    Config(#[source] redis::RedisError),
    /// No connection could be had in time.
    #[error("Redis at {address} cannot be reached")]
    Unreachable {
        /// `host:port`.
        address: String,
        /// The last failed attempt to connect, if there was one.
        #[source]
        source: Option<redis::RedisError>,
    },
    /// The server refused the credentials.
    #[error("Redis at {address} refused the credentials")]
    Auth {
        /// `host:port`.
        address: String,
        /// What the server said.
        #[source]
        source: redis::RedisError,
    },
    /// There was no answer in time. Nothing can have changed: the command was never sent, or
    /// sending it twice gives the same result as sending it once.
    #[error("{command} had no answer after {waited:?}")]
    Timeout {
        /// The command.
        command: &'static str,
        /// Time since the call.
        waited: Duration,
    },
    /// The command was refused because too many others are waiting.
    #[error("{command} was shed: {waiting} commands are waiting")]
    Shed {
        /// The command.
        command: &'static str,
        /// Commands that were waiting.
        waiting: usize,
    },
    /// `redis.dedicated_max` is zero, so nobody gets a connection of its own.
    #[error("there are no dedicated Redis connections: redis.dedicated_max is 0")]
    NoneDedicated,
    /// The connection pool is being closed.
    #[error("the Redis connection pool is draining")]
    Draining,
    /// The command was sent and the answer was lost; it may or may not have been executed.
    #[error("the outcome of {command} is unknown")]
    UnknownOutcome {
        /// The command.
        command: &'static str,
        /// Why the answer was lost; absent for a timeout.
        #[source]
        source: Option<redis::RedisError>,
    },
    /// The server answered with an error.
    #[error("Redis refused {command} ({code})")]
    Server {
        /// The command.
        command: &'static str,
        /// The server's error code, such as `WRONGTYPE`.
        code: String,
        /// The server's error.
        #[source]
        source: redis::RedisError,
    },
    /// The server answered with another type than the command is known to give.
    #[error("{command} was answered with {found}, which is not {expected}")]
    UnexpectedReply {
        /// The command.
        command: &'static str,
        /// What the command answers with.
        expected: &'static str,
        /// What came instead.
        found: &'static str,
    },
}

impl RedisError {
    /// Whether the server cannot be reached or is overloaded, so that a later attempt may succeed.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Timeout { .. }
            | Self::Shed { .. }
            | Self::Draining
            | Self::UnknownOutcome { .. } => true,
            Self::Server { code, .. } => REFUSED_FOR_NOW.contains(&code.as_str()),
            Self::Config(_)
            | Self::Auth { .. }
            | Self::NoneDedicated
            | Self::UnexpectedReply { .. } => false,
        }
    }

    /// The error's name in spans and metrics (`error.type`).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Unreachable { .. } => "unreachable",
            Self::Auth { .. } => "auth",
            Self::Timeout { .. } => "timeout",
            Self::Shed { .. } => "shed",
            Self::NoneDedicated => "none_dedicated",
            Self::Draining => "draining",
            Self::UnknownOutcome { .. } => "unknown_outcome",
            Self::Server { .. } => "server",
            Self::UnexpectedReply { .. } => "unexpected_reply",
        }
    }
}

/// Codes by which a server says that it did not execute a command and may do so later.
pub(crate) const REFUSED_FOR_NOW: [&str; 5] =
    ["LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN"];

/// Those of them by which a server says that it is not, or no longer, the one to talk to: the lane
/// is replaced, and the ready check finds out who is.
pub(crate) const NOT_READY: [&str; 3] = ["LOADING", "MASTERDOWN", "READONLY"];
