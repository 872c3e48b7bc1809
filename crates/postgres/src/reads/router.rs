//! Reads that may be answered by a replica, and which one answers.
//!
//! # Guarantees
//! - A read at [`Consistency::AtLeast`] sees everything up to that position. What is known of a
//!   replica only decides which one is asked: the position is looked at again on the connection
//!   of the read, in the same round trip, so a replica that was restarted, promoted or put in the
//!   place of another cannot answer with something older.
//! - A read at [`Consistency::Lagging`] sees the database as it was no longer ago than that. The
//!   age is measured on the clock of this process, from before the primary was asked where it is,
//!   and goes on growing until the next look; transaction times come from the primary alone.
//!   (Transactions with `synchronous_commit = off` count from the moment they are in the log.)
//! - Of the replicas that qualify, two are drawn and the less busy one is asked
//!   (M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
//! - A replica that fails three reads in a row, does not answer the monitor, or is a replica no
//!   more is left alone until the monitor finds it well; reads under way on it move at once.
//! - Reads that no replica can answer go to the primary, and hold a fifth of its connections at
//!   most ([`FALLBACK_SHARE`]): replicas that die do not take the primary with them.
//! - A primary that takes no writes any more (SQLSTATE 25006) is left for the one member that does,
//!   within a look. Writes that met the old one are done again like any that were undone.
//! - Nothing is kept in a session, so a transaction pooler may stand in front of each server.
//!
//! # Failure modes
//! While the primary does not answer, nobody knows how old a replica is: reads at
//! [`Consistency::Lagging`] are answered until the last look is too old for them.
//!
//! A primary that cannot be reached is waited for: from here nobody can tell whether it was replaced
//! or is only out of sight. All members have the same database, user and password.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_config::PostgresConfig;
use forebay_pooling::{Deadline, Gate, GateConfig, GateError};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::pool::Shared;
use crate::{PgError, PgPool, Sql};

pub use consistency::Consistency;
pub use lsn::{Lsn, ParseLsnError};
pub use reader::PgReader;
pub use stats::{ReplicaState, ReplicaStats, RouterStats};

use replica::{Answer, Replica};

mod ask;
mod consistency;
mod leader;
mod lsn;
mod metrics;
mod monitor;
mod reader;
mod replica;
mod standing;
mod stats;

/// The share of the primary's connections that reads may hold which no replica could answer: one
/// in so many, and one at least.
const FALLBACK_SHARE: u32 = 5;

/// Holders of the primary's connections that an error names.
const HOLDERS_NAMED: usize = 3;

/// Names of their connection pools, in metrics and statistics.
const NAMES: [&str; PostgresConfig::REPLICAS_MAX] = [
    "postgres-replica-1",
    "postgres-replica-2",
    "postgres-replica-3",
    "postgres-replica-4",
    "postgres-replica-5",
    "postgres-replica-6",
    "postgres-replica-7",
    "postgres-replica-8",
];

/// The position that covers everything committed so far. Not that up to which the log is written:
/// a commit without `synchronous_commit` is visible before.
pub(crate) static CURRENT_LSN: Sql =
    Sql::new("SELECT pg_current_wal_insert_lsn", "SELECT pg_current_wal_insert_lsn()");

/// The replicas of one primary.
pub(crate) struct Router {
    replicas: Vec<Replica>,
    fallback: Gate,
    /// Told when a write met a server that takes none.
    suspected: Arc<Notify>,
    moves: AtomicU64,
}

impl Router {
    /// The replicas that `config` names; `None` if it names none.
    pub(crate) fn open(config: &PostgresConfig, service: &str) -> Result<Option<Self>, PgError> {
        if config.replica_urls.is_empty() {
            return Ok(None);
        }
        let open = |(name, url)| Replica::open(config, service, name, url);
        let named = NAMES.into_iter().zip(&config.replica_urls);
        let replicas: Result<_, _> = named.map(open).collect();
        let permits = (config.connections_max / FALLBACK_SHARE).max(1);
        let fallback = GateConfig {
            reserved: Some(0),
            ..GateConfig::new(
                usize::try_from(permits).unwrap_or(usize::MAX),
                config.waiting_max,
                config.acquire_timeout,
            )
        };
        Ok(Some(Self {
            replicas: replicas?,
            fallback: Gate::new(fallback),
            suspected: Arc::default(),
            moves: AtomicU64::new(0),
        }))
    }

    /// Begins to watch the replicas of `primary`, for as long as that lives.
    pub(crate) fn watch(primary: &Arc<Shared>) {
        monitor::start(primary);
        metrics::observe(primary);
    }

    /// The primary refused a write: somebody has to look at it now.
    pub(crate) fn suspect(&self) {
        self.suspected.notify_one();
    }

    /// Hears of [`Router::suspect`].
    fn suspected(&self) -> Arc<Notify> {
        Arc::clone(&self.suspected)
    }

    fn count_move(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs one read where `consistency` allows.
    pub(crate) async fn read(
        &self,
        primary: &PgPool,
        caller: &'static Location<'static>,
        (sql, params): (&Sql, &[&(dyn ToSql + Sync)]),
        consistency: Consistency,
    ) -> Result<Vec<Row>, PgError> {
        let mut tried = vec![false; self.replicas.len()];
        while let Some(index) = self.choose(consistency, &tried) {
            tried[index] = true;
            match self.replicas[index].read(caller, (sql, params), consistency).await {
                Answer::Final(outcome) => return outcome,
                Answer::Elsewhere => {}
            }
        }
        let _permit = self.fallback.acquire(caller).await.map_err(|error| match error {
            GateError::Shed { waiting, predicted } => PgError::Shed { waiting, predicted },
            GateError::Timeout { waited } => {
                let in_use = self.fallback.stats().held;
                let holders = self.fallback.oldest_holders(HOLDERS_NAMED);
                PgError::Timeout { waited, in_use, limbo: 0, holders }
            }
            GateError::Closed => PgError::Draining,
        })?;
        primary.read_one(caller, sql, params).await
    }

    pub(crate) async fn drain(&self, deadline: Deadline) -> usize {
        self.fallback.close();
        let drained = join_all(self.replicas.iter().map(|replica| replica.drain(deadline))).await;
        drained.into_iter().sum()
    }

    pub(crate) fn stats(&self) -> RouterStats {
        let fallback = self.fallback.stats();
        RouterStats {
            replicas: self.replicas.iter().map(Replica::stats).collect(),
            primary_moves: self.moves.load(Ordering::Relaxed),
            fallback_in_use: fallback.held,
            fallback_max: fallback.permits,
            fallback_waiting: fallback.waiting,
            fallback_shed: fallback.shed,
        }
    }

    /// Draws two of the replicas that qualify and takes the less busy one.
    fn choose(&self, consistency: Consistency, tried: &[bool]) -> Option<usize> {
        let qualifies =
            |index: &usize| !tried[*index] && self.replicas[*index].standing().answers(consistency);
        let mut qualified: Vec<usize> = (0..self.replicas.len()).filter(qualifies).collect();
        if qualified.len() > 1 {
            let first = qualified.swap_remove(rand::random_range(0..qualified.len()));
            let second = qualified.swap_remove(rand::random_range(0..qualified.len()));
            let is_busier = self.replicas[first].load() > self.replicas[second].load();
            return Some(if is_busier { second } else { first });
        }
        qualified.pop()
    }
}
