//! Many concurrent lookups by key, answered by few statements.
//!
//! A lookup by primary key costs Postgres a few microseconds of work and some
//! twenty more for the messages, the wake-ups and the plan around it. Here
//! lookups that are waiting at the same time travel together, as one
//! `= ANY($1)`, so that cost is paid once for all of them. Nobody waits for a
//! batch to fill: the first caller departs at once, and the next batch forms
//! while it is under way. A lone caller is as fast as it was, and the batches
//! grow with the load.
//!
//! # Guarantees
//! - Callers depart in the order in which they came. At most
//!   [`PointReadsBounds::batches_in_flight_max`] batches are under way, none of
//!   more than [`PointReadsBounds::keys_max`] keys, and at most
//!   [`PointReadsBounds::waiting_max`] callers wait for one; one more is
//!   refused with [`PgError::Shed`].
//! - A key that several callers of one batch ask for is looked up once. Nobody
//!   joins a batch that has departed: who reads after its own write sees it.
//! - A caller that goes away, or whose deadline passes, changes nothing for the
//!   others. Keys that nobody waits for any more are not looked up.
//! - A batch is a read like any other: repeated when its connection dies, one
//!   place of the gate while it is under way.
//!
//! ```no_run
//! # async fn example(postgres: forebay_postgres::PgPool) -> Result<(), forebay_postgres::PgError> {
//! use forebay_postgres::{PointReads, PointReadsBounds, Sql};
//!
//! // The key is the first column, and comes back as it was asked for.
//! const BY_MINTS: Sql =
//!     Sql::new("SELECT tokens", "SELECT mint, symbol FROM tokens WHERE mint = ANY($1)");
//!
//! let symbols: PointReads<String, String> =
//!     PointReads::new(postgres, BY_MINTS, PointReadsBounds::default(), |row| Ok(row.try_get(1)?));
//! let symbol: Option<String> = symbols.get("So111".to_owned()).await?;
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Weak};

use forebay_pooling::Deadline;
use parking_lot::Mutex;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql};

use crate::{PgError, PgPool, Sql};

pub use bounds::{PointReadsBounds, PointReadsStats};

use metrics::Metrics;
use queue::{Queue, Seat};

mod bounds;
mod metrics;
mod queue;
mod runner;

/// What a lookup can be made by: bound as one element of the array `$1`, read back from the first
/// column.
pub trait PointKey: ToSql + for<'row> FromSql<'row> + Eq + Hash + Send + Sync + 'static {}

impl<K> PointKey for K where K: ToSql + for<'row> FromSql<'row> + Eq + Hash + Send + Sync + 'static {}

/// Lookups of rows by key `K`, each read as a `V`. Clones share everything.
pub struct PointReads<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    postgres: PgPool,
    sql: Sql,
    bounds: PointReadsBounds,
    value: Box<ReadValue<V>>,
    queue: Mutex<Queue<K, V>>,
    metrics: Metrics,
}

type ReadValue<V> = dyn Fn(&Row) -> Result<V, PgError> + Send + Sync;

impl<K: PointKey, V: Clone + Send + 'static> PointReads<K, V> {
    /// Lookups with `sql`: a `SELECT` with one parameter, the array of keys, that returns the key
    /// as its first column and at most one row for each key. `value` reads the rest of a row.
    pub fn new(
        postgres: PgPool,
        sql: Sql,
        bounds: PointReadsBounds,
        value: impl Fn(&Row) -> Result<V, PgError> + Send + Sync + 'static,
    ) -> Self {
        let bounds = bounds.at_least_one();
        Self(Arc::new_cyclic(|inner: &Weak<Inner<K, V>>| Inner {
            metrics: Metrics::new(sql.summary(), {
                let inner = Weak::clone(inner);
                move || inner.upgrade().map(|inner| inner.stats())
            }),
            postgres,
            sql,
            bounds,
            value: Box::new(value),
            queue: Mutex::new(Queue::new()),
        }))
    }

    /// The value of the row with this key, if there is such a row.
    ///
    /// Waits no longer than the acquire timeout and the statement timeout together, nor past the
    /// deadline in scope. Cancel-safe.
    ///
    /// # Errors
    /// [`PgError::Shed`] at once when too many callers wait, [`PgError::Timeout`] when the time
    /// ran out before the batch departed, [`PgError::StatementTimeout`] when it ran out after
    /// that, [`PgError::RowCount`] when the key has several rows, what `value` says about the row
    /// of this key, and any [`PgError`] of the batch.
    pub fn get(
        &self,
        key: K,
    ) -> impl Future<Output = Result<Option<V>, PgError>> + Send + use<K, V> {
        let inner = Arc::clone(&self.0);
        async move {
            let started = Instant::now();
            let deadline = Deadline::within(inner.postgres.patience());
            let seat = Self::board(&inner, key, deadline)?;
            match timeout_at(deadline.instant(), seat.answer).await {
                Ok(Ok(answer)) => answer,
                // The runtime ends, or reading a row panicked.
                Ok(Err(RecvError { .. })) => Err(abandoned()),
                Err(_elapsed) => {
                    Err(seat.has_departed.too_late(|| inner.postgres.gave_up(started.elapsed())))
                }
            }
        }
    }

    /// The state now.
    pub fn stats(&self) -> PointReadsStats {
        self.0.stats()
    }

    /// Takes a place in the batch that forms, and sees to it that somebody runs it.
    fn board(inner: &Arc<Inner<K, V>>, key: K, deadline: Deadline) -> Result<Seat<V>, PgError> {
        let (seat, is_to_run) = {
            let mut queue = inner.queue.lock();
            let seat = queue.board(key, deadline, &inner.bounds)?;
            (seat, queue.may_run(&inner.bounds))
        };
        if is_to_run {
            runner::spawn(inner);
        }
        Ok(seat)
    }
}

impl<K, V> Inner<K, V> {
    fn stats(&self) -> PointReadsStats {
        self.queue.lock().stats()
    }
}

/// The error of a caller whose batch ended without an answer.
fn abandoned() -> PgError {
    let error = io::Error::other("the task that read the batch ended without an answer");
    PgError::ConnectionLost { source: Arc::new(error) }
}

impl<K, V> Clone for PointReads<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for PointReads<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PointReads")
            .field("sql", &self.0.sql.summary())
            .field("stats", &self.0.stats())
            .finish_non_exhaustive()
    }
}
