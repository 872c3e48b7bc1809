//! Reads of one consistency.

use std::future::Future;
use std::panic::Location;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Consistency;
use crate::pool::{at_most_one, exactly_one};
use crate::{PgError, PgPool, Sql};

/// Reads with [`PgPool::read_at`], from whoever may answer.
#[derive(Debug, Clone)]
pub struct PgReader {
    postgres: PgPool,
    consistency: Consistency,
}

impl PgReader {
    pub(crate) fn new(postgres: PgPool, consistency: Consistency) -> Self {
        Self { postgres, consistency }
    }

    /// Runs one read and returns all its rows.
    ///
    /// A statement that is no read, by the rule of [`PgPool::query`], goes to the primary.
    ///
    /// # Errors
    /// As [`PgPool::query`]. [`PgError::Shed`] and [`PgError::Timeout`] also when no replica can
    /// answer and too many reads are on the primary for that reason.
    #[track_caller]
    pub fn query<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, PgError>> + Send + 'a {
        self.postgres.query_at(Location::caller(), self.consistency, sql, params)
    }

    /// Like [`PgReader::query`], for a statement that returns one row or none.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there are several, and all of [`PgReader::query`].
    #[track_caller]
    pub fn query_opt<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, PgError>> + Send + 'a {
        let rows = self.query(sql, params);
        async move { at_most_one(rows.await?) }
    }

    /// Like [`PgReader::query`], for a statement that returns exactly one row.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there is none or there are several, and all of
    /// [`PgReader::query`].
    #[track_caller]
    pub fn query_one<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Row, PgError>> + Send + 'a {
        let rows = self.query(sql, params);
        async move { exactly_one(rows.await?) }
    }
}
