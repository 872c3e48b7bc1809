//! Short reads that share connections: many statements under way on one.
//!
//! A connection that serves one statement at a time idles while the answer
//! travels and its caller wakes up. Here statements are sent without waiting
//! for the answers of those before them.
//!
//! # How it works
//! Callers hand their statements to one queue, which *pipes* empty: tasks that
//! hold a lease like any caller, so the connections are within the budget and
//! counted as in use. A pipe has up to [`DEPTH_MAX`] statements under way. It
//! starts when a statement finds no room in the others, at most [`PIPES_MAX`]
//! of them and a quarter of the connections, and gives its connection back as
//! soon as it has nothing to do, or when others wait for connections and it
//! had its turn.
//!
//! # Guarantees
//! - Statements are sent in the order in which they came. One more than
//!   `waiting_max` waiting ones is refused with [`PgError::Shed`].
//! - A caller that goes away does nothing to the others: what it has not sent
//!   is not sent, and an answer that nobody wants is read and thrown away.
//! - A statement whose connection dies is read again on another one, by the
//!   same rules as any read.
//! - A pipe that gets no answer takes no more statements ([`pipe::SLOW`]), and
//!   in the end closes its connection.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use crate::pool::Shared;
use crate::{PgError, Sql};

use job::{Job, Reply};
use queue::Queue;

pub use queue::PipelineStats;

mod job;
mod metrics;
mod pipe;
mod queue;

/// Statements under way on one connection. More would only wait in the server's socket buffer.
const DEPTH_MAX: usize = 32;
/// Connections that are shared, at most. Source: measured; a few keep all processors of a server
/// busy that has other things to do as well.
const PIPES_MAX: usize = 4;
/// The share of a connection pool that may be shared: one in so many.
const PIPES_SHARE: u32 = 4;
/// Texts whose parameter types are known. One more is not pipelined.
const TEXTS_MAX: usize = 256;

/// The shared reads of one connection pool.
pub(crate) struct Pipeline {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// By text. Parameters are encoded by the caller, who has them, and that takes their types.
    types: Mutex<HashMap<Box<str>, Arc<[Type]>>>,
}

/// What became of a read.
pub(crate) enum Piped {
    /// It was answered, or refused in a way that another try would not change.
    Answered(Result<Vec<Row>, PgError>),
    /// It cannot be pipelined now: it takes a connection of its own, which shows how.
    Unknown,
    /// Its connection was lost.
    Lost,
}

impl Pipeline {
    /// No pipe yet.
    pub(crate) fn new(connections_max: u32, waiting_max: usize) -> Self {
        let pipes_max =
            usize::try_from(connections_max / PIPES_SHARE).unwrap_or(PIPES_MAX).clamp(1, PIPES_MAX);
        Self {
            queue: Mutex::new(Queue::new(pipes_max, waiting_max)),
            arrived: Notify::new(),
            types: Mutex::default(),
        }
    }

    /// Exports the state of the pipeline of `shared` for as long as that lives.
    pub(crate) fn observe(shared: &Arc<Shared>) {
        let name = shared.name();
        let shared = Arc::downgrade(shared);
        metrics::observe(name, move || {
            Weak::upgrade(&shared).map(|shared| shared.pipeline().stats())
        });
    }

    pub(crate) fn stats(&self) -> PipelineStats {
        self.queue.lock().stats()
    }

    /// Takes note of how a statement is sent, as a connection of its own has found out.
    pub(crate) fn learn(&self, sql: &Sql, types: Option<Arc<[Type]>>) {
        let mut known = self.types.lock();
        if let Some(types) = types
            && known.len() < TEXTS_MAX
        {
            known.insert(sql.text().into(), types);
        }
    }

    /// Runs one read on a shared connection.
    pub(crate) async fn read(
        &self,
        shared: &Arc<Shared>,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Piped {
        let types = self.types.lock().get(sql.text()).map(Arc::clone);
        // Whoever cannot encode its parameters is told why by the driver.
        let Some(params) = types.as_ref().and_then(|types| job::encode(params, types)) else {
            return Piped::Unknown;
        };
        let started = Instant::now();
        let deadline = shared.patience_deadline();
        let (job, seat) = Job::new(sql.clone(), types.unwrap_or_default(), params);
        let pushed = self.queue.lock().push(job);
        match pushed {
            Ok(true) => pipe::spawn(shared),
            Ok(false) => self.arrived.notify_one(),
            Err(shed) => return Piped::Answered(Err(shed)),
        }
        match timeout_at(deadline.instant(), seat.reply).await {
            Ok(Ok(Reply::Rows(rows))) => Piped::Answered(Ok(rows)),
            Ok(Ok(Reply::Failed(failure))) if failure.is_lost => Piped::Lost,
            Ok(Ok(Reply::Failed(failure))) if failure.is_stale_plan() => {
                self.types.lock().remove(sql.text());
                Piped::Unknown
            }
            Ok(Ok(Reply::Failed(failure))) => Piped::Answered(Err(failure.error)),
            Ok(Ok(Reply::Mistyped)) => {
                self.types.lock().remove(sql.text());
                Piped::Unknown
            }
            // The pipe gave its connection up.
            Ok(Err(_dropped)) => Piped::Lost,
            Err(_elapsed) => {
                let gave_up = || shared.gave_up(started.elapsed());
                Piped::Answered(Err(seat.has_departed.too_late(gave_up)))
            }
        }
    }
}
