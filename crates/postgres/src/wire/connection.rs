//! One connection and what is known about its state.

use std::pin::pin;
use std::time::Duration;

use forebay_pooling::{CloseReason, Deadline};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::lifecycle::connector::{Canceller, Connector, Opened};
use crate::wire::answer::Answer;
use crate::wire::cut_off::CutOff;
use crate::wire::dsn::Mode;
use crate::wire::failure::Failure;
use crate::wire::last_words::LastWords;
use crate::wire::statements::{Prepared, Statements, custom_types};
use crate::{PgError, Sql};

mod together;

/// How long a statement that was left behind may go on before it is cancelled.
/// Most end by themselves sooner, and cancelling costs the server a process.
const CANCEL_GRACE: Duration = Duration::from_millis(5);
/// How long the server may take to pass a cancel request on.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a connection keeps its place while the server is still at work for a caller that went
/// away. After it the connection is closed, and the server finds that out by itself within the
/// `client_connection_check_interval`.
const LIMBO_MAX: Duration = Duration::from_secs(5);
/// How long an idle connection may take to show that it is alive.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that nobody used for so long is checked, so that a network that forgets silent
/// connections does not forget ours, and the next caller finds one that works.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A time differs by up to this share from connection to connection, so that those opened together
/// do not go together.
const JITTER: f64 = 0.1;

/// A connection of the connection pool.
///
/// `activity` is set before bytes leave and cleared after the last byte came
/// back, so it tells the truth also when the future in between was dropped.
pub(crate) struct PgConnection {
    client: Client,
    driver: JoinHandle<()>,
    last_words: LastWords,
    canceller: Canceller,
    statements: Statements,
    cut_off: CutOff,
    mode: Mode,
    activity: Activity,
    in_transaction: bool,
    poisoned: Option<CloseReason>,
    generation: u64,
    saw_read_only: bool,
    is_new: bool,
    is_spared: bool,
    expires_at: Instant,
    keepalive: Duration,
    used_at: Instant,
    answered_at: Instant,
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
    /// A connection that is to be replaced after `lifetime_max`, or somewhat earlier.
    pub(crate) fn new(opened: Opened, mode: Mode, lifetime_max: Duration) -> Self {
        let Opened { client, driver, last_words, canceller, generation } = opened;
        let now = Instant::now();
        let earlier = 1.0 - JITTER * rand::random::<f64>();
        let either_way = 1.0 + JITTER * (2.0 * rand::random::<f64>() - 1.0);
        Self {
            client,
            driver,
            last_words,
            canceller,
            statements: Statements::default(),
            cut_off: CutOff::default(),
            mode,
            activity: Activity::None,
            in_transaction: false,
            poisoned: None,
            generation,
            saw_read_only: false,
            is_new: true,
            is_spared: false,
            expires_at: now + lifetime_max.mul_f64(earlier),
            keepalive: KEEPALIVE.mul_f64(either_way),
            used_at: now,
            answered_at: now,
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
        self.poisoned.is_some() || self.client.is_closed()
    }

    /// Why it must be closed when it comes back; `None` if the next caller can use it.
    pub(crate) fn reason_to_close(&self) -> Option<CloseReason> {
        match self.poisoned {
            Some(reason) => Some(reason),
            None if self.client.is_closed() => Some(CloseReason::Broken),
            None if !self.is_clean() => Some(CloseReason::Poisoned),
            None => self.is_old_on_return().then_some(CloseReason::Lifetime),
        }
    }

    /// The [`Connector::generation`] that it is of.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether the server said since the last time that it takes no writes.
    pub(crate) fn take_read_only(&mut self) -> bool {
        std::mem::take(&mut self.saw_read_only)
    }

    /// Whether nobody has used it yet.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it was lost with a statement under way, after it had served somebody else.
    pub(crate) fn was_lost_in_service(&self) -> bool {
        !self.is_new && self.poisoned == Some(CloseReason::Broken)
    }

    /// Whether it is time for another one.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires_at <= Instant::now()
    }

    /// Judged by the moment of return, which has just been marked: no other look at the clock.
    fn is_old_on_return(&self) -> bool {
        self.expires_at <= self.used_at && !self.is_spared
    }

    /// When a caller last used it.
    pub(crate) fn used_at(&self) -> Instant {
        self.used_at
    }

    /// How long the server has said nothing on it.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.answered_at)
    }

    /// Whether it was silent for so long that somebody should look.
    pub(crate) fn needs_keepalive(&self) -> bool {
        self.silent_for(Instant::now()) >= self.keepalive
    }

    /// Lets it go back although it is too old: only so many are replaced at a time.
    pub(crate) fn spare(&mut self) {
        self.is_spared = true;
    }

    /// Marks the moment of return.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used_at = now;
        self.answered_at = now;
        self.is_new = false;
        self.is_spared = false;
    }

    /// Marks it as never to be used again and ends its task, which closes the socket. The first
    /// reason stands.
    pub(crate) fn poison(&mut self, reason: CloseReason) {
        self.poisoned.get_or_insert(reason);
        self.driver.abort();
    }

    /// Asks the server for a sign of life.
    pub(crate) async fn is_alive(&mut self) -> bool {
        self.activity = Activity::Statement;
        let alive =
            matches!(timeout(CHECK_TIMEOUT, self.client.check_connection()).await, Ok(Ok(())));
        self.activity = Activity::None;
        if alive {
            self.answered_at = Instant::now();
        } else {
            self.poison(CloseReason::Invalid);
        }
        alive
    }

    /// Runs a statement and cuts it off at `deadline`; `runtime` is that of the connection.
    pub(crate) async fn run_by<A: Answer>(
        &mut self,
        deadline: Deadline,
        runtime: &Handle,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<A, Failure> {
        // Dropped before its end, the next statement sets another one.
        let mut cut_off = std::mem::take(&mut self.cut_off);
        let outcome = cut_off.by(deadline, runtime, pin!(self.run(sql, params))).await;
        self.cut_off = cut_off;
        outcome
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
                // On the heap, or every caller's future would have room for this rare case.
                Box::pin(self.run_anew(sql, params)).await
            }
            settled => settled,
        }
    }

    async fn run_anew<A: Answer>(
        &mut self,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<A, Failure> {
        let (prepared, _) = self.prepared(sql).await?;
        self.activity = Activity::Statement;
        let result = A::ask(&self.client, sql, &prepared, params).await;
        self.settle(result)
    }

    /// Opens a transaction with `text`.
    pub(crate) async fn begin(&mut self, text: &str) -> Result<(), Failure> {
        // Set before anything is sent: from here on nobody knows what the server has seen.
        self.in_transaction = true;
        self.control(text, Activity::Statement).await
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

    /// Brings a connection whose caller went away back to a clean state; `false` if it must be
    /// closed. Takes as long as the server is at work on it, and [`LIMBO_MAX`] at most.
    pub(crate) async fn clean(&mut self, connector: &Connector) -> bool {
        timeout(LIMBO_MAX, self.settle_down(connector)).await.unwrap_or(false)
    }

    async fn settle_down(&mut self, connector: &Connector) -> bool {
        if self.is_dead() || (self.is_busy() && !self.quiesce(connector).await) {
            return false;
        }
        self.activity = Activity::None;
        !self.in_transaction || self.rollback().await.is_ok()
    }

    /// Waits until the backend is idle, and cancels what it does if that takes too long. `false`
    /// if it cannot be used again.
    async fn quiesce(&self, connector: &Connector) -> bool {
        // Nobody knows the name of a statement whose preparation was not waited for.
        let mut is_reusable = self.activity != Activity::Prepare;
        let idle = self.client.check_connection();
        tokio::pin!(idle);
        if let Ok(answer) = timeout(CANCEL_GRACE, &mut idle).await {
            return is_reusable && answer.is_ok();
        }
        if self.activity != Activity::Commit {
            let cancelled = timeout(CANCEL_TIMEOUT, connector.cancel(&self.canceller)).await;
            is_reusable &= self.mode.cancels_at_once() && matches!(cancelled, Ok(Ok(())));
        }
        // In any case: the place is taken for as long as the server is at work for it.
        idle.await.is_ok() && is_reusable
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
            self.begin("BEGIN").await?;
        }
        self.activity = Activity::Prepare;
        let result = self.client.prepare(sql.text()).await;
        let statement = self.settle(result)?;
        if !self.mode.keeps_session()
            && let Some((place, type_name)) = custom_types(&statement).next()
        {
            // To learn the type, the driver has left names of its own on the server connection. It
            // goes with ours, because we are inside a transaction.
            self.poison(CloseReason::Poisoned);
            let summary = sql.summary();
            return Err(Failure::refused(PgError::CustomType { summary, place, type_name }));
        }
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
                let failure = Failure::in_session(error, &self.last_words);
                self.saw_read_only |= matches!(failure.error, PgError::ReadOnly { .. });
                if failure.is_lost {
                    self.poison(CloseReason::Broken);
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
