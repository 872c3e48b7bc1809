//! One transaction on one connection.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::lifecycle::checkout::Freshness;
use crate::lifecycle::lease::Lease;
use crate::pool::{Shared, at_most_one, exactly_one};
use crate::transactions::retry::{Tries, Why};
use crate::wire::answer::Answer;
use crate::wire::failure::{Failure, by};
use crate::{Lsn, PgError, Sql};

pub use options::{Isolation, TxOptions};

mod options;

static BEGIN: Sql = Sql::new("BEGIN", "BEGIN");
static COMMIT: Sql = Sql::new("COMMIT", "COMMIT");
static ROLLBACK: Sql = Sql::new("ROLLBACK", "ROLLBACK");
/// Tries to open a transaction. Nothing has happened yet, so another connection is as good.
const BEGIN_ATTEMPTS_MAX: u32 = 3;

/// An open transaction. Only [`PgTransaction::commit`] makes its writes last: dropped in any other
/// way, also in the middle of a statement, it is rolled back.
pub struct PgTransaction {
    lease: Lease,
    shared: Arc<Shared>,
    has_failed: bool,
    why: Option<Why>,
}

impl PgTransaction {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// After any error but [`PgError::RowCount`] the transaction can only be rolled back.
    pub async fn query(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        self.run(sql, params).await
    }

    /// Like [`PgTransaction::query`], for a statement that returns one row or none.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there are several, and all of [`PgTransaction::query`].
    pub async fn query_opt(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, PgError> {
        at_most_one(self.run(sql, params).await?)
    }

    /// Like [`PgTransaction::query`], for a statement that returns exactly one row.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there is none or there are several, and all of
    /// [`PgTransaction::query`].
    pub async fn query_one(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, PgError> {
        exactly_one(self.run(sql, params).await?)
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    /// As [`PgTransaction::query`].
    pub async fn execute(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, PgError> {
        self.run(sql, params).await
    }

    /// Makes everything last.
    ///
    /// # Errors
    /// [`PgError::UnknownOutcome`] when no answer came: it may have been committed. After any
    /// other error it was rolled back; [`PgError::TransactionFailed`] says that an earlier
    /// statement failed, which the server itself would only report as a quiet rollback.
    pub async fn commit(mut self) -> Result<(), PgError> {
        if self.has_failed {
            self.rollback().await?;
            return Err(PgError::TransactionFailed);
        }
        let shared = Arc::clone(&self.shared);
        let commit = async {
            let outcome = by(shared.statement_deadline(), self.lease.commit()).await;
            outcome.map_err(Failure::of_write)
        };
        shared.observer().statement(&COMMIT, commit).await
    }

    /// As [`PgTransaction::commit`]; the position is the token with which reads that may be
    /// answered by a replica see this transaction ([`Consistency::AtLeast`](crate::Consistency)).
    /// `None` means that it is committed and the server did not say where: read from the primary.
    ///
    /// # Errors
    /// As [`PgTransaction::commit`].
    pub async fn commit_lsn(mut self) -> Result<Option<Lsn>, PgError> {
        if self.has_failed {
            self.rollback().await?;
            return Err(PgError::TransactionFailed);
        }
        let shared = Arc::clone(&self.shared);
        let commit = async {
            let outcome = by(shared.statement_deadline(), self.lease.commit_lsn()).await;
            outcome.map_err(Failure::of_write)
        };
        shared.observer().statement(&COMMIT, commit).await
    }

    /// Undoes everything. Dropping the transaction does the same without waiting for it.
    ///
    /// # Errors
    /// When the connection is lost, which undoes everything too.
    pub async fn rollback(mut self) -> Result<(), PgError> {
        if self.lease.is_busy() {
            // A statement that was cut off still runs: the drop cancels it first.
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let rollback = async {
            let outcome = by(shared.statement_deadline(), self.lease.rollback()).await;
            outcome.map_err(|failure| failure.error)
        };
        shared.observer().statement(&ROLLBACK, rollback).await
    }

    /// Why it failed, if doing all of it once more may help.
    pub(crate) fn why(&self) -> Option<Why> {
        self.why
    }

    pub(crate) fn begin<'a>(
        shared: &'a Arc<Shared>,
        caller: &'static Location<'static>,
        options: TxOptions,
    ) -> impl Future<Output = Result<Self, PgError>> + Send + 'a {
        shared.observer().statement(&BEGIN, async move {
            let mut freshness = Freshness::Recent;
            let mut tries = Tries::new(shared, BEGIN_ATTEMPTS_MAX);
            loop {
                let mut lease = shared.checkout(caller, None, freshness, Instant::now()).await?;
                match by(shared.statement_deadline(), lease.begin(options.begin())).await {
                    Ok(()) => {
                        let shared = Arc::clone(shared);
                        return Ok(Self { lease, shared, has_failed: false, why: None });
                    }
                    Err(failure) => {
                        drop(lease);
                        if !(failure.is_lost && tries.again(Why::lost(&failure.error)).await) {
                            return Err(failure.error);
                        }
                        freshness = Freshness::Proven;
                    }
                }
            }
        })
    }

    async fn run<A: Answer>(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<A, PgError> {
        if self.has_failed {
            return Err(PgError::TransactionFailed);
        }
        // Set first: a statement whose future is dropped leaves the transaction in an unknown state.
        self.has_failed = true;
        let (shared, lease, why) = (&self.shared, &mut self.lease, &mut self.why);
        let statement = async {
            let outcome = lease.run(shared.statement_deadline(), sql, params).await;
            outcome.map_err(|failure| {
                *why = if failure.is_lost {
                    Some(Why::lost(&failure.error))
                } else {
                    Why::of(&failure.error)
                };
                failure.error
            })
        };
        let answer = shared.observer().statement(sql, statement).await?;
        self.has_failed = false;
        Ok(answer)
    }
}

impl std::fmt::Debug for PgTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgTransaction")
            .field("has_failed", &self.has_failed)
            .finish_non_exhaustive()
    }
}
