//! One connection and what is known about its state.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::answer::Answer;
use crate::connector::{Canceller, Connector, Opened};
use crate::dsn::Mode;
use crate::failure::Failure;
use crate::statements::{Prepared, Statements};
use crate::{PgError, Sql};

/// How long a statement that was left behind may go on before it is cancelled.
/// Most end by themselves sooner, and cancelling costs the server a process.
const CANCEL_GRACE: Duration = Duration::from_millis(5);
/// How long cancelling and cleaning may take before the connection is closed instead.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection may take to show that it is alive.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection of the connection pool.
///
/// `activity` is set before bytes leave and cleared after the last byte came
/// back, so it tells the truth also when the future in between was dropped.
pub(crate) struct PgConnection {
    client: Client,
    driver: JoinHandle<()>,
    canceller: Canceller,
    statements: Statements,
    mode: Mode,
    activity: Activity,
    in_transaction: bool,
    is_poisoned: bool,
    is_new: bool,
    expires_at: Instant,
    used_at: Instant,
}

/// What the backend may be doing now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// Waiting for us.
    None,
    /// Running something that may be cancelled.
    Statement,
    /// Preparing a statement, whose name nobody would know if we went away.
    Prepare,
    /// Committing, which must not be cut off half-way.
    Commit,
}

impl PgConnection {
    /// A connection that is to be replaced after `lifetime`.
    pub(crate) fn new(opened: Opened, mode: Mode, lifetime: Duration) -> Self {
        let Opened { client, driver, canceller } = opened;
        let now = Instant::now();
        Self {
            client,
            driver,
            canceller,
            statements: Statements::default(),
            mode,
            activity: Activity::None,
            in_transaction: false,
            is_poisoned: false,
            is_new: true,
            expires_at: now + lifetime,
            used_at: now,
        }
    }

    /// Whether the next caller could use it as it is.
    pub(crate) fn is_clean(&self) -> bool {
        self.activity == Activity::None && !self.in_transaction
    }

    /// Whether the backend may still be at work for a caller that went away.
    pub(crate) fn is_busy(&self) -> bool {
        self.activity != Activity::None
    }

    /// Whether it can never be used again.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_poisoned || self.client.is_closed()
    }

    /// Whether nobody has used it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it is time for another one.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at <= Instant::now()
    }

    /// How long nobody has used it.
    pub(crate) fn idle_for(&self) -> Duration {
        self.used_at.elapsed()
    }

    /// Marks the moment of return.
    pub(crate) fn touch(&mut self) {
        self.used_at = Instant::now();
        self.is_new = false;
    }

    /// Marks it as never to be used again and ends its task, which closes the socket.
    pub(crate) fn poison(&mut self) {
        self.is_poisoned = true;
        self.driver.abort();
    }

    /// Asks the server for a sign of life.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.activity = Activity::Statement;
        let alive =
            matches!(timeout(CHECK_TIMEOUT, self.client.check_connection()).await, Ok(Ok(())));
        self.activity = Activity::None;
        if !alive {
            self.poison();
        }
        alive
    }

    /// Runs a statement.
    pub(crate) async fn run<A: Answer>(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<A, Failure> {
        let (prepared, was_cached) = self.prepared(sql).await?;
        self.activity = Activity::Statement;
        let result = A::ask(&self.client, sql, &prepared, params).await;
        match self.settle(result) {
            Err(failure) if was_cached && failure.is_stale_plan() => {
                // The schema changed under the statement; the server did nothing yet.
                drop(prepared);
                self.statements.remove(sql.text());
                if self.in_transaction {
                    // This transaction is lost, but the next one prepares the statement anew.
                    return Err(failure);
                }
                let (prepared, _) = self.prepared(sql).await?;
                self.activity = Activity::Statement;
                let result = A::ask(&self.client, sql, &prepared, params).await;
                self.settle(result)
            }
            settled => settled,
        }
    }

    /// Opens a transaction.
    pub(crate) async fn begin(&mut self) -> Result<(), Failure> {
        // Set before anything is sent: from here on nobody knows what the server has seen.
        self.in_transaction = true;
        self.control("BEGIN", Activity::Statement).await
    }

    /// Commits the open transaction.
    pub(crate) async fn commit(&mut self) -> Result<(), Failure> {
        let outcome = self.control("COMMIT", Activity::Commit).await;
        // An error of the server is an answer: the transaction is over, it was rolled back.
        if outcome.is_ok() || self.activity == Activity::None {
            self.in_transaction = false;
        }
        outcome
    }

    /// Rolls the open transaction back.
    pub(crate) async fn rollback(&mut self) -> Result<(), Failure> {
        self.control("ROLLBACK", Activity::Statement).await?;
        self.in_transaction = false;
        Ok(())
    }

    /// Brings a connection whose caller went away back to a clean state; `false` if it must be closed.
    pub(crate) async fn clean(&mut self, connector: &Connector) -> bool {
        let was = self.activity;
        if self.is_dead() || was == Activity::Prepare {
            return false;
        }
        if was != Activity::None && !self.quiesce(connector, was).await {
            return false;
        }
        self.activity = Activity::None;
        let rolled_back = async { !self.in_transaction || self.rollback().await.is_ok() };
        timeout(CLEAN_TIMEOUT, rolled_back).await.unwrap_or(false)
    }

    /// Waits until the backend is idle, and cancels what it does if that takes too long.
    async fn quiesce(&self, connector: &Connector, activity: Activity) -> bool {
        let idle = self.client.check_connection();
        tokio::pin!(idle);
        if let Ok(answer) = timeout(CANCEL_GRACE, &mut idle).await {
            return answer.is_ok();
        }
        if activity != Activity::Commit {
            let cancelled = timeout(CLEAN_TIMEOUT, connector.cancel(&self.canceller)).await;
            let is_safe_to_reuse = self.mode.cancels_at_once();
            if !matches!(cancelled, Ok(Ok(()))) || !is_safe_to_reuse {
                return false;
            }
        }
        matches!(timeout(CLEAN_TIMEOUT, idle).await, Ok(Ok(())))
    }

    /// How to run the statement on this connection, and whether that was known before.
    async fn prepared(&mut self, sql: &Sql) -> Result<(Prepared, bool), Failure> {
        if let Some(prepared) = self.statements.get(sql.text()) {
            return Ok((prepared, true));
        }
        if sql.changes_session() {
            return Err(Failure::refused(PgError::SessionStatement { summary: sql.summary() }));
        }
        // On the heap, because it is rare and would make every caller's future large.
        let prepared = Box::pin(self.prepare(sql)).await;
        let prepared = prepared.map_err(Failure::before_execution)?;
        self.statements.insert(sql.text(), prepared.clone());
        Ok((prepared, false))
    }

    async fn prepare(&mut self, sql: &Sql) -> Result<Prepared, Failure> {
        // Behind a transaction pooler a name holds for one transaction at most,
        // because the next one may run on another server connection.
        let is_own_transaction = !self.mode.keeps_session() && !self.in_transaction;
        if is_own_transaction {
            self.begin().await?;
        }
        self.activity = Activity::Prepare;
        let result = self.client.prepare(sql.text()).await;
        let statement = self.settle(result)?;
        let prepared = if !self.mode.keeps_session() || sql.is_planned_each_time() {
            Prepared::Unnamed(statement.params().into())
        } else {
            Prepared::Named(statement.clone())
        };
        // The driver closes the name on the server with its last owner, inside the transaction.
        drop(statement);
        if is_own_transaction {
            self.rollback().await?;
        }
        Ok(prepared)
    }

    async fn control(&mut self, text: &str, activity: Activity) -> Result<(), Failure> {
        self.activity = activity;
        let result = self.client.batch_execute(text).await;
        self.settle(result)
    }

    /// Takes note of what an answer says about the connection.
    fn settle<T>(&mut self, result: Result<T, tokio_postgres::Error>) -> Result<T, Failure> {
        match result {
            Ok(value) => {
                self.activity = Activity::None;
                Ok(value)
            }
            Err(error) => {
                let is_answer = error.as_db_error().is_some();
                let failure = Failure::of_driver(error);
                if failure.is_lost {
                    self.poison();
                } else if is_answer {
                    // The session goes on. Any other error leaves open what
                    // was sent: the janitor finds out.
                    self.activity = Activity::None;
                }
                Err(failure)
            }
        }
    }
}
