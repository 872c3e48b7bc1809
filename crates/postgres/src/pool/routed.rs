//! Reads that replicas may answer.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{PgPool, Shared};
use crate::reads::router::{CURRENT_LSN, Router};
use crate::{Consistency, Lsn, PgError, PgReader, RouterStats, Sql};

impl PgPool {
    /// Reads that must see no more than `consistency` says, and so may be answered by a replica.
    ///
    /// ```no_run
    /// # async fn example(postgres: forebay_postgres::PgPool) -> Result<(), forebay_postgres::PgError> {
    /// # use std::time::Duration;
    /// use forebay_postgres::{Consistency, Sql};
    ///
    /// const RENAME: Sql = Sql::new("UPDATE tokens", "UPDATE tokens SET name = $1 WHERE id = $2");
    /// const COUNT: Sql = Sql::new("SELECT tokens", "SELECT count(*) FROM tokens");
    ///
    /// let mut tx = postgres.begin().await?;
    /// tx.execute(&RENAME, &[&"Wrapped SOL", &1_i64]).await?;
    /// // Without a token only the primary is sure to know of the write.
    /// let after_write = tx.commit_lsn().await?.map_or(Consistency::Primary, Consistency::AtLeast);
    /// let row = postgres.read_at(after_write).query_one(&COUNT, &[]).await?;
    /// // This one may be a few seconds old.
    /// let relaxed = Consistency::Lagging(Duration::from_secs(5));
    /// let row = postgres.read_at(relaxed).query_one(&COUNT, &[]).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_at(&self, consistency: Consistency) -> PgReader {
        PgReader::new(self.clone(), consistency)
    }

    /// Where the log of the primary is now: a token for everything that is committed by now.
    ///
    /// # Errors
    /// As [`PgPool::query`].
    #[track_caller]
    pub fn lsn(&self) -> impl Future<Output = Result<Lsn, PgError>> + Send + '_ {
        // On the heap, or the futures of callers grow with every layer.
        let row = Box::pin(self.query_one(&CURRENT_LSN, &[]));
        async move { Ok(row.await?.try_get(0)?) }
    }

    /// The state of the replicas now; `None` if there is none.
    pub fn router_stats(&self) -> Option<RouterStats> {
        self.0.router().map(Router::stats)
    }

    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }

    /// `host:port` of the server, or several.
    pub(crate) fn address(&self) -> String {
        let places = self.0.manager().connector().places();
        let places: Vec<_> = places.iter().map(ToString::to_string).collect();
        places.join(",")
    }

    /// Runs one read where `consistency` allows; anything else is for the primary.
    pub(crate) fn query_at<'a>(
        &'a self,
        caller: &'static Location<'static>,
        consistency: Consistency,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, PgError>> + Send + 'a {
        self.0.observer().statement(sql, async move {
            match self.0.router() {
                _ if !sql.is_read() => self.write(caller, sql, params).await,
                Some(router) if consistency != Consistency::Primary => {
                    // On the heap, or all reads would have the size of those that are routed.
                    Box::pin(router.read(self, caller, (sql, params), consistency)).await
                }
                Some(_) | None => self.read_one(caller, sql, params).await,
            }
        })
    }
}
