//! Real Postgres and Redis for tests: a database and a key prefix of its own for each.
//!
//! ```no_run
//! # async fn example() {
//! let database = forebay_testkit::database().await;
//! let tokens = forebay_testkit::seeded_database().await;
//! println!("{} and {}", database.url(), tokens.url());
//! # }
//! ```
//!
//! # Guarantees
//!
//! - Every [`TestDatabase`] is a fresh clone of a migrated (and seeded) template. The template is
//!   made once for each state of the migrations, whatever number of test processes start at once.
//! - A database is dropped with its value. What a killed test leaves behind is dropped by the
//!   next test process.
//! - [`PrivateRedis`], [`PrivatePostgres`], [`PrivateReplica`] and [`PrivatePgBouncer`] are servers of
//!   the test's own, to be killed, stopped and started again on the same port. They die with the
//!   test, also when it is killed.
//!
//! # Failure modes
//!
//! Everything here panics with the whole chain of causes: a test without its servers has nothing
//! to assert. The servers are found through the variables that `cargo xtask test` sets.

mod database;
mod environment;
mod private;
mod redis;
mod settings;
mod sweep;
mod template;

pub use database::{TestDatabase, database, empty_database, seeded_database};
pub use environment::{bin_dir, pgbouncer, postgres_bin, redis_server};
pub use private::{PrivatePgBouncer, PrivatePostgres, PrivateRedis, PrivateReplica};
pub use redis::{redis_prefix, redis_url};
pub use settings::{postgres_config, redis_config};
