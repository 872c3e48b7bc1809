//! RedisPool: shared pipelined lanes, dedicated leases, pub/sub.
//!
//! Three ways to use one server, because each needs its own kind of connection:
//!
//! - [`RedisPool::shared`]: typed commands of all callers, pipelined on one connection (lane) while
//!   others stand by. This is the way for everything that does not block.
//! - [`RedisPool::dedicated`]: a connection for one caller alone, for commands that block.
//! - [`RedisPool::subscribe`]: messages of a channel, with every gap made visible.
//!
//! Guarantees:
//!
//! - A service starts and keeps running while the server is down. Lanes, leases and subscriptions
//!   come back by themselves, with jittered pauses of at most `backoff_max`, and of at most a second
//!   while somebody waits for them.
//! - A lane whose peer vanished without a word, or became a replica, is found within a second and a
//!   half, whether or not commands are sent, and replaced; what was sent on it is not waited for.
//! - A command is sent again only if it never left this process, if the server refused it unseen,
//!   or if running it twice changes nothing; otherwise its caller gets
//!   [`RedisError::UnknownOutcome`].
//! - Everything that waits is bounded: commands in number by the lane's queue and the offline queue,
//!   in time by their timeout and the deadline in scope; messages in number and bytes.
//! - A cancelled caller never leaves a connection to others on which its answer is still to come.
//!
//! Needs Redis 6 or later (RESP3).
//!
//! ```no_run
//! # async fn example(config: &forebay_config::RedisConfig) -> Result<(), forebay_redis::RedisError> {
//! use std::time::Duration;
//!
//! let redis = forebay_redis::RedisPool::new(config)?;
//! let shared = redis.shared();
//! shared.set_px("greeting", "hello", Duration::from_secs(60)).await?;
//! assert_eq!(shared.get("greeting").await?.as_deref(), Some(b"hello".as_slice()));
//! # Ok(())
//! # }
//! ```

mod address;
mod command;
mod connection;
mod dedicated;
mod error;
mod execute;
mod idempotent;
mod lane;
mod manager;
mod offline;
mod pool;
mod reply;
mod request;
mod shared;
mod signal;
mod span;
mod stats;
mod subscription;

pub use command::{Command, Script, ScriptCall};
pub use dedicated::DedicatedRedis;
pub use error::RedisError;
pub use pool::RedisPool;
pub use reply::Reply;
pub use shared::SharedRedis;
pub use stats::{RedisLaneStats, RedisPoolStats};
pub use subscription::{Event, Subscription};
