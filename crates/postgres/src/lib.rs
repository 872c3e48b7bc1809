//! `PgPool`: Postgres through bb8, gated, cancel-safe and with typed errors.
//!
//! # Guarantees
//! - Callers get connections in the order in which they asked; a bounded
//!   number may wait, the next one is refused at once ([`PgError::Shed`]).
//! - A connection is never handed out dirty. When a caller's future is dropped
//!   in the middle of a statement, the statement is cancelled on the server,
//!   an open transaction is rolled back, and only then does the connection
//!   serve the next caller; what cannot be cleaned is closed.
//! - Every statement has a deadline: the nearer of the caller's
//!   ([`forebay_pooling::Deadline`]) and the statement timeout.
//! - A read that loses its connection before it was answered is repeated on
//!   another one. A write never is: its caller gets [`PgError::UnknownOutcome`].
//!   Work given as a closure ([`PgPool::read`], [`PgPool::tx`]) is repeated as a
//!   whole, as long as the server has undone it; [`PgPool::write_idempotent`] is
//!   repeated also when it may have been done. Repetitions are a tenth of what
//!   succeeds, so they never become the load; a connection that was lost in service pays for one.
//! - When no connection is open and none can be opened, everybody who waits gets the cause as a
//!   type, at once. A server that was there a moment ago is waited for during
//!   `postgres.outage_grace`. Nobody has to restart anything when it comes back.
//! - No more statements run on the server than there are connections: a place is taken until the
//!   server is done with it, for 5 s at most after its caller went away.
//! - A server that refuses connections for want of slots gets fewer of them, and more again, one
//!   at a time, while callers wait.
//! - [`PgPool::drain`] returns at its deadline, and what still ran then is cancelled.
//!
//! # Failure modes
//! [`PgError::is_unavailable`] tells "the store cannot serve now" apart from
//! "this statement is wrong". Needs PostgreSQL 14 or later.
//!
//! ```no_run
//! # async fn example(config: &forebay_config::PostgresConfig) -> Result<(), forebay_postgres::PgError> {
//! use forebay_postgres::{PgPool, Sql};
//!
//! const GET: Sql = Sql::new("SELECT tokens", "SELECT symbol FROM tokens WHERE mint = $1");
//!
//! let postgres = PgPool::new(config, "token-server")?;
//! let symbol: Option<String> = match postgres.query_opt(&GET, &[&"So111"]).await? {
//!     Some(row) => Some(row.try_get(0)?),
//!     None => None,
//! };
//! # Ok(())
//! # }
//! ```

mod error;
mod lifecycle;
pub mod maintenance;
pub mod migrate;
mod observe;
mod pool;
mod reads;
mod sql;
mod transactions;
mod wire;

pub use error::{Cause, PgError};
pub use lifecycle::budget::{BudgetError, BudgetReport, ConnectionLimit};
pub use pool::PgPool;
pub use reads::pipeline::PipelineStats;
pub use reads::point_reads::{PointKey, PointReads, PointReadsBounds, PointReadsStats};
pub use reads::router::{
    Consistency, Lsn, ParseLsnError, PgReader, ReplicaState, ReplicaStats, RouterStats,
};
pub use sql::Sql;
pub use transactions::closures::PgTx;
pub use transactions::repeat::Repetition;
pub use transactions::sweeper::{Sweep, Sweeper};
pub use transactions::transaction::{Isolation, PgTransaction, TxOptions};

/// State of one Postgres connection pool.
pub use forebay_pooling::PoolStats as PgPoolStats;
/// What callers need to bind parameters and to read rows.
pub use tokio_postgres::{
    Row,
    types::{self, FromSql, Json, ToSql, Type},
};
