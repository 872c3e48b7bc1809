//! One connection that statements share.

use std::collections::VecDeque;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::CloseReason;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::DEPTH_MAX;
use super::job::{Job, Reply};
use crate::lifecycle::checkout::Freshness;
use crate::lifecycle::lease::Lease;
use crate::pool::Shared;
use crate::wire::answer::Answer;
use crate::wire::failure::Failure;
use crate::wire::statements::{Prepared, Statements};

/// A pipe whose oldest statement is older than this takes no more until it is answered.
pub(super) const SLOW: Duration = Duration::from_millis(100);
/// A pipe whose oldest statement is older than the statement timeout by this gives its connection
/// up: the server would have ended the statement, so it hears us no more.
const DEAF_AFTER: Duration = Duration::from_secs(1);
/// How often the two are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A pipe gives its connection back after this time while callers wait for connections.
const TURN: Duration = Duration::from_millis(20);
/// And after this one in any case: connections have a lifetime, which is looked at on return.
const TURN_MAX: Duration = Duration::from_secs(1);

/// Starts a pipe that the queue has counted.
pub(super) fn spawn(shared: &Arc<Shared>) {
    let pipe = Pipe {
        shared: Arc::clone(shared),
        caller: Location::caller(),
        in_flight: 0,
        withdrawn: 0,
        is_counted: true,
    };
    shared.runtime().spawn(pipe.run());
}

struct Pipe {
    shared: Arc<Shared>,
    caller: &'static Location<'static>,
    in_flight: usize,
    /// Room that this pipe does not offer, because it is slow.
    withdrawn: usize,
    is_counted: bool,
}

/// How a turn ended.
enum End {
    /// Everything was answered.
    Clean,
    /// The connection is gone.
    Lost,
    /// The connection is not heard from.
    Deaf,
}

impl Pipe {
    async fn run(mut self) {
        loop {
            let mut lease = match self
                .shared
                .checkout(self.caller, None, Freshness::Recent, Instant::now())
                .await
            {
                Ok(lease) => lease,
                Err(error) => {
                    for job in self.end() {
                        job.reply(Reply::Failed(Failure::refused(error.clone())));
                    }
                    return;
                }
            };
            match self.turn(&mut lease).await {
                End::Clean => lease.unshare(),
                End::Lost => lease.poison(CloseReason::Broken),
                // Not clean: the janitor keeps its place until the server is done with it.
                End::Deaf => {}
            }
            self.forget();
            drop(lease);
            if self.shared.pipeline().queue.lock().may_end() {
                self.is_counted = false;
                return;
            }
        }
    }

    /// Sends statements and hands out answers, until there is nothing to do or the turn is over.
    async fn turn(&mut self, lease: &mut Lease) -> End {
        let shared = Arc::clone(&self.shared);
        let arrived = &shared.pipeline().arrived;
        let deaf_after = shared.statement_timeout().saturating_add(DEAF_AFTER);
        let (client, statements, has_names) = lease.share();
        let mut answers = Answers { futures: FuturesUnordered::new(), sent: VecDeque::new() };
        let started = Instant::now();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let takes_more = !self.is_over(started);
            while takes_more && let Some(job) = self.next() {
                let prepared = statements.get(job.sql.text());
                let prepared = match prepared {
                    Some(prepared) => prepared,
                    None if has_names && !job.sql.is_planned_each_time() => {
                        // In line: the next statement is not sent before this one.
                        match self.prepare(client, &job, &mut answers, statements).await {
                            Ok(prepared) => prepared,
                            Err(failure) => {
                                let is_lost = failure.is_lost;
                                job.reply(Reply::Failed(failure));
                                self.answered();
                                if is_lost {
                                    return End::Lost;
                                }
                                continue;
                            }
                        }
                    }
                    None => Prepared::Unnamed(Arc::clone(&job.types)),
                };
                if !prepared.takes(&job.types) {
                    job.reply(Reply::Mistyped);
                    self.answered();
                    continue;
                }
                answers.sent.push_back(Instant::now());
                answers.futures.push(ask(client, prepared, job));
            }
            if answers.futures.is_empty() {
                return End::Clean;
            }
            tokio::select! {
                Some(answer) = answers.futures.next() => {
                    if self.hand_out(answer, &mut answers.sent, statements) {
                        return End::Lost;
                    }
                }
                () = arrived.notified(), if takes_more && self.has_room() => {}
                _ = look.tick() => {
                    let oldest = answers.sent.front().map(Instant::elapsed).unwrap_or_default();
                    if oldest > deaf_after {
                        tracing::warn!("a shared postgres connection is not heard from");
                        return End::Deaf;
                    }
                    if oldest > SLOW {
                        self.withdraw();
                    }
                }
            }
        }
    }

    /// Asks for a name for the statement, while the answers to others come in.
    async fn prepare<F: Future<Output = Answered>>(
        &mut self,
        client: &Client,
        job: &Job,
        answers: &mut Answers<F>,
        statements: &mut Statements,
    ) -> Result<Prepared, Failure> {
        let mut preparing = pin!(client.prepare(job.sql.text()));
        let statement = loop {
            tokio::select! {
                prepared = &mut preparing => break prepared,
                Some(answer) = answers.futures.next() => {
                    // If the connection is lost, so is what we wait for.
                    self.hand_out(answer, &mut answers.sent, statements);
                }
            }
        };
        let statement = statement.map_err(|error| Failure::of_driver(error).before_execution())?;
        let prepared = Prepared::Named(statement);
        statements.insert(job.sql.text(), prepared.clone());
        Ok(prepared)
    }

    /// Tells the caller; `true` if the connection is lost.
    fn hand_out(
        &mut self,
        answer: Answered,
        sent: &mut VecDeque<Instant>,
        statements: &mut Statements,
    ) -> bool {
        let Answered { job, rows } = answer;
        sent.pop_front();
        self.answered();
        if self.withdrawn > 0 && sent.front().is_none_or(|oldest| oldest.elapsed() < SLOW) {
            self.offer();
        }
        match rows {
            Ok(rows) => {
                job.reply(Reply::Rows(rows));
                false
            }
            Err(error) => {
                let failure = Failure::of_driver(error);
                if failure.is_stale_plan() {
                    statements.remove(job.sql.text());
                }
                let is_lost = failure.is_lost;
                job.reply(Reply::Failed(failure));
                is_lost
            }
        }
    }

    /// Whether somebody else is to have the connection.
    fn is_over(&self, started: Instant) -> bool {
        let age = started.elapsed();
        age > TURN_MAX || (age > TURN && self.shared.gate().stats().waiting > 0)
    }

    fn has_room(&self) -> bool {
        self.withdrawn == 0 && self.in_flight < DEPTH_MAX
    }

    fn next(&mut self) -> Option<Job> {
        let pipeline = self.shared.pipeline();
        let mut queue = pipeline.queue.lock();
        if !self.has_room() {
            if !queue.is_empty() {
                // Some other pipe may have room.
                pipeline.arrived.notify_one();
            }
            return None;
        }
        let job = queue.pop()?;
        self.in_flight += 1;
        Some(job)
    }

    fn answered(&mut self) {
        self.in_flight -= 1;
        self.shared.pipeline().queue.lock().answered();
    }

    fn withdraw(&mut self) {
        if self.withdrawn == 0 {
            self.withdrawn = DEPTH_MAX - self.in_flight;
            let starts = self.shared.pipeline().queue.lock().withdraw(self.withdrawn);
            if starts {
                spawn(&self.shared);
            }
        }
    }

    fn offer(&mut self) {
        let room = std::mem::take(&mut self.withdrawn);
        self.shared.pipeline().queue.lock().offer(room);
    }

    /// What is still counted as under way is so no more.
    fn forget(&mut self) {
        self.offer();
        while self.in_flight > 0 {
            self.answered();
        }
    }

    /// Counts the pipe out; returns what nobody will send.
    fn end(&mut self) -> VecDeque<Job> {
        self.forget();
        self.is_counted = false;
        self.shared.pipeline().queue.lock().end()
    }
}

impl Drop for Pipe {
    /// The runtime ends, or something panicked: callers read on connections of their own.
    fn drop(&mut self) {
        if self.is_counted {
            drop(self.end());
        }
    }
}

/// Statements under way.
struct Answers<F> {
    futures: FuturesUnordered<F>,
    /// When each was sent. Answers come in the same order, so the front is of the oldest.
    sent: VecDeque<Instant>,
}

/// A statement and what the server said.
struct Answered {
    job: Job,
    rows: Result<Vec<Row>, tokio_postgres::Error>,
}

/// Sends the statement when it is first polled, and collects its rows whether its caller is still
/// there or not.
async fn ask(client: &Client, prepared: Prepared, job: Job) -> Answered {
    let params: Vec<&(dyn ToSql + Sync)> =
        job.params.iter().map(|param| -> &(dyn ToSql + Sync) { param }).collect();
    let rows = Vec::<Row>::ask(client, &job.sql, &prepared, &params).await;
    Answered { job, rows }
}
