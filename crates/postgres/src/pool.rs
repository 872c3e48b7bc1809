//! The connection pool itself.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::PostgresConfig;
use forebay_pooling::{Deadline, Priority};
use futures_util::FutureExt as _;
use futures_util::future::join;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::lifecycle::application::application_name;
use crate::lifecycle::budget::{BudgetError, BudgetReport, ConnectionLimit, SERVER_LIMIT};
use crate::lifecycle::checkout::Freshness;
use crate::reads::pipeline::Piped;
use crate::reads::router::Router;
use crate::transactions::retry::{ATTEMPTS_MAX, Tries, Why};
use crate::transactions::transaction::PgTransaction;
use crate::wire::answer::Answer;
use crate::wire::failure::Failure;
use crate::{PgError, PgPoolStats, PipelineStats, Sql, TxOptions};

pub(crate) use shared::Shared;

mod routed;
mod shared;

/// Name in metrics and statistics of the connection pool to the server that takes writes.
const NAME: &str = "postgres";
/// And in `pg_stat_activity`.
const PRIMARY: &str = "primary";

/// A Postgres connection pool. Clones share it.
#[derive(Clone)]
pub struct PgPool(Arc<Shared>);

impl PgPool {
    /// A connection pool for the database in `config`.
    ///
    /// Never waits and needs no server: connections are opened when they are needed, so a service
    /// starts while Postgres is down. [`PgPool::ready`] tells whether it can be reached. Must be
    /// called within a Tokio runtime.
    ///
    /// Connections are named `service/instance/primary` in `pg_stat_activity`.
    ///
    /// # Errors
    /// [`PgError::InvalidUrl`] and [`PgError::Tls`] when the address or the trusted roots are unusable.
    pub fn new(config: &PostgresConfig, service: &str) -> Result<Self, PgError> {
        let postgres = Self::open(config, service, NAME, PRIMARY)?;
        if let Some(router) = Router::open(config, service)? {
            postgres.0.route(router);
        }
        Ok(postgres)
    }

    /// Asks the server for a sign of life, within the acquire timeout and the deadline in scope.
    /// Goes ahead of all other callers ([`Priority::Admin`]), so that an overload is not taken for
    /// an outage.
    ///
    /// # Errors
    /// Why the server cannot be used now.
    #[track_caller]
    pub fn ready(&self) -> impl Future<Output = Result<(), PgError>> + Send + '_ {
        static PROBE: Sql = Sql::new("SELECT 1", "SELECT 1");
        // On the heap: it is rare, and would make the future of every caller large.
        let rows = Box::pin(self.query(&PROBE, &[]));
        async move { Priority::Admin.scope(rows).await.map(drop) }
    }

    /// Runs one read and returns all its rows.
    ///
    /// Repeated on another connection when the one in use dies before the answer is complete, if
    /// the text begins with `SELECT`, `VALUES`, `TABLE`, `SHOW` or `EXPLAIN`. For a `SELECT` that
    /// changes data use a transaction.
    ///
    /// # Errors
    /// Any [`PgError`] of getting a connection and of the statement.
    #[track_caller]
    pub fn query<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Vec<Row>, PgError>> + Send + 'a {
        let caller = Location::caller();
        self.0.observer().statement(sql, async move {
            if sql.is_read() {
                self.read_one(caller, sql, params).await
            } else {
                self.write(caller, sql, params).await
            }
        })
    }

    /// Like [`PgPool::query`], for a statement that returns one row or none.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there are several, and all of [`PgPool::query`].
    #[track_caller]
    pub fn query_opt<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Option<Row>, PgError>> + Send + 'a {
        self.query(sql, params).map(|rows| at_most_one(rows?))
    }

    /// Like [`PgPool::query`], for a statement that returns exactly one row.
    ///
    /// # Errors
    /// [`PgError::RowCount`] when there is none or there are several, and all of [`PgPool::query`].
    #[track_caller]
    pub fn query_one<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Row, PgError>> + Send + 'a {
        self.query(sql, params).map(|rows| exactly_one(rows?))
    }

    /// Runs one write, in a transaction of its own, and returns how many rows it touched. Never
    /// repeated.
    ///
    /// # Errors
    /// [`PgError::UnknownOutcome`] when the statement was sent and no answer came, also because
    /// the deadline passed; any other [`PgError`] means that nothing was written.
    #[track_caller]
    pub fn execute<'a>(
        &'a self,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<u64, PgError>> + Send + 'a {
        let caller = Location::caller();
        self.0.observer().statement(sql, self.write(caller, sql, params))
    }

    /// Opens a transaction (READ COMMITTED). Dropped without [`PgTransaction::commit`], it is
    /// rolled back.
    ///
    /// # Errors
    /// Any [`PgError`] of getting a connection.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<PgTransaction, PgError>> + Send + '_ {
        PgTransaction::begin(&self.0, Location::caller(), TxOptions::default())
    }

    /// Whether the connections of all processes together fit the server, as `postgres.budget`
    /// describes them. Asks the server how many it has, unless a pooler stands in front of it.
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`] with the arithmetic: this process should not run.
    /// [`BudgetError::Unknown`] while the server does not answer: ask again.
    #[track_caller]
    pub fn check_budget(
        &self,
    ) -> impl Future<Output = Result<BudgetReport, BudgetError>> + Send + '_ {
        // On the heap: it is rare, and would make the start of a process large.
        let row = Box::pin(self.query_one(&SERVER_LIMIT, &[]));
        async move {
            let limits = self.0.manager().connector().limits();
            let limit = match limits.known() {
                Some(limit) => limit,
                None => ConnectionLimit::of_server(&row.await?)?,
            };
            self.0.counters().learn_limit(limit.connections());
            limits.check(limit)
        }
    }

    /// The state of the connection pool now.
    pub fn stats(&self) -> PgPoolStats {
        self.0.stats()
    }

    /// What is at the other end: `direct`, `session` pooler or `transaction` pooler.
    pub fn mode(&self) -> &'static str {
        self.0.manager().connector().target().mode.as_str()
    }

    /// The state of the statements that share connections ([`Sql::pipelined`]) now.
    pub fn pipeline_stats(&self) -> PipelineStats {
        self.0.pipeline().stats()
    }

    /// Changes how many connections may be in use, while it runs. What is open beyond the new limit
    /// is closed when nobody uses it. The setting `postgres.connections_max` stays the most there
    /// can ever be; returns the limit that holds from now on.
    pub fn resize(&self, connections_max: u32) -> u32 {
        self.0.manager().sizing().resize(connections_max)
    }

    /// Turns everybody away at once, also those who wait, and lets those who hold a connection go on
    /// until `deadline`. Then their statements are cancelled and their connections closed, which
    /// takes a second or two at most. Returns how many were cut off.
    pub async fn drain(&self, deadline: Deadline) -> usize {
        let replicas = async {
            match self.0.router() {
                Some(router) => router.drain(deadline).await,
                None => 0,
            }
        };
        // On the heap: it waits for as long as it takes, in any case.
        let (primary, replicas) = Box::pin(join(self.0.drain(deadline), replicas)).await;
        primary + replicas
    }

    pub(crate) fn open(
        config: &PostgresConfig,
        service: &str,
        name: &'static str,
        role: &str,
    ) -> Result<Self, PgError> {
        let application_name = application_name(service, &config.instance, role);
        Shared::open(config, &application_name, name).map(Self)
    }

    /// What to tell a caller that got nothing within `waited`.
    pub(crate) fn gave_up(&self, waited: std::time::Duration) -> PgError {
        self.0.gave_up(waited)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The longest time that a read may take, the wait for a connection included.
    pub(crate) fn patience(&self) -> Duration {
        self.0.patience()
    }

    /// Where tasks of this connection pool run.
    pub(crate) fn runtime(&self) -> &Handle {
        self.0.runtime()
    }

    /// A read may be repeated when its connection dies: nothing of the answer was given out.
    pub(crate) async fn read_one(
        &self,
        caller: &'static Location<'static>,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, PgError> {
        let mut freshness = Freshness::Recent;
        let mut now = Instant::now();
        let mut tries = Tries::from(now, &self.0, ATTEMPTS_MAX);
        if sql.is_pipelined() {
            // On the heap, or the futures of all other reads would have the size of this one.
            let piped = Box::pin(self.0.pipeline().read(&self.0, sql, params));
            match piped.await {
                Piped::Answered(answer) => {
                    if answer.is_ok() {
                        tries.succeeded();
                    }
                    return answer;
                }
                Piped::Unknown => now = Instant::now(),
                Piped::Lost => {
                    tries.lost_with_others();
                    now = Instant::now();
                    freshness = Freshness::Proven;
                }
            }
        }
        loop {
            let mut lease = self.0.checkout(caller, Some(sql.summary()), freshness, now).await?;
            let deadline = self.0.statement_deadline_from(lease.since());
            match lease.run_noted(deadline, sql, params).await {
                Ok(rows) => {
                    if sql.is_pipelined() {
                        self.0.pipeline().learn(sql, lease.types_of(sql));
                    }
                    tries.succeeded();
                    return Ok(rows);
                }
                Err(failure) => {
                    drop(lease);
                    if !(failure.is_lost && tries.again(Why::lost(&failure.error)).await) {
                        return Err(failure.error);
                    }
                    // What killed this connection has probably killed idle ones too.
                    freshness = Freshness::Proven;
                    now = Instant::now();
                }
            }
        }
    }

    async fn write<A: Answer>(
        &self,
        caller: &'static Location<'static>,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<A, PgError> {
        let now = Instant::now();
        let mut lease =
            self.0.checkout(caller, Some(sql.summary()), Freshness::Recent, now).await?;
        let deadline = self.0.statement_deadline_from(lease.since());
        let outcome = lease.run_noted(deadline, sql, params).await;
        if outcome.is_ok() {
            self.0.retries().succeeded();
        }
        outcome.map_err(Failure::of_write)
    }
}

impl std::fmt::Debug for PgPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PgPool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The row, if there is one.
pub(crate) fn at_most_one(rows: Vec<Row>) -> Result<Option<Row>, PgError> {
    let count = rows.len();
    let mut rows = rows.into_iter();
    match (rows.next(), rows.next()) {
        (row, None) => Ok(row),
        (_, Some(_)) => Err(PgError::RowCount { rows: count, expected: "one or none" }),
    }
}

/// The row.
pub(crate) fn exactly_one(rows: Vec<Row>) -> Result<Row, PgError> {
    let rows_count = rows.len();
    at_most_one(rows)
        .ok()
        .flatten()
        .ok_or(PgError::RowCount { rows: rows_count, expected: "exactly one" })
}
