//! How a request gets from a caller to a lane and back: order, deadline, retries, outcome.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::redis::{self, Value, aio::MultiplexedConnection};
use forebay_pooling::{Backoff, Deadline, GateError, GatePermit};
use tokio::time::Instant;
use tracing::Instrument;

use crate::command::Command;
use crate::error::REFUSED_FOR_NOW;
use crate::lane::{Connected, Lane, LaneStatus};
use crate::pool::Inner;
use crate::stats::add_one;
use crate::{RedisError, RedisPool, Reply, span};

/// The first pause before a command is sent again; it doubles each time.
const RETRY_BASE: Duration = Duration::from_millis(10);

/// What is sent in one go: a command or a pipeline of commands.
#[derive(Debug)]
pub(crate) struct Request {
    commands: Vec<Command>,
    script: Option<&'static str>,
    is_pipeline: bool,
}

impl Request {
    pub(crate) fn command(command: Command) -> Self {
        Self { commands: vec![command], script: None, is_pipeline: false }
    }

    pub(crate) fn script(command: Command, summary: &'static str) -> Self {
        Self { commands: vec![command], script: Some(summary), is_pipeline: false }
    }

    pub(crate) fn pipeline(commands: Vec<Command>, summary: &'static str) -> Self {
        Self { commands, script: Some(summary), is_pipeline: true }
    }

    fn name(&self) -> &'static str {
        self.commands.last().map_or("PIPELINE", Command::name)
    }

    fn is_idempotent(&self) -> bool {
        self.commands.iter().all(Command::is_idempotent)
    }

    fn batch(&self) -> Option<usize> {
        self.is_pipeline.then_some(self.commands.len())
    }
}

/// The server's answers to one request.
#[derive(Debug)]
pub(crate) struct Answers(Vec<Value>);

impl Answers {
    pub(crate) fn into_one(self, command: &'static str) -> Result<Reply, RedisError> {
        let value = self.0.into_iter().next().unwrap_or(Value::Nil);
        reply_of(value, command)
    }

    pub(crate) fn into_many(self, command: &'static str) -> Vec<Result<Reply, RedisError>> {
        self.0.into_iter().map(|value| reply_of(value, command)).collect()
    }
}

fn reply_of(value: Value, command: &'static str) -> Result<Reply, RedisError> {
    match value.extract_error() {
        Ok(value) => Ok(Reply::from_value(value)),
        Err(source) => Err(server_error(command, source)),
    }
}

/// The error of a command that the server refused.
pub(crate) fn server_error(command: &'static str, source: redis::RedisError) -> RedisError {
    let code = source.code().unwrap_or("ERR").to_owned();
    RedisError::Server { command, code, source }
}

/// Sends a request under a span and records how long it took.
pub(crate) async fn execute(
    pool: &RedisPool,
    request: Request,
    timeout: Duration,
) -> Result<Answers, RedisError> {
    let name = request.name();
    let started = Instant::now();
    let span = span::of(name, pool.0.manager.address(), request.batch(), request.script);
    let run = run(&pool.0, &request, started, Deadline::within(timeout));
    let result = run.instrument(span.clone()).await;
    if let Err(error) = &result {
        span::failed(&span, error);
    }
    pool.0.durations.record(name, started.elapsed(), result.as_ref().err());
    result
}

async fn run(
    pool: &Inner,
    request: &Request,
    started: Instant,
    deadline: Deadline,
) -> Result<Answers, RedisError> {
    let backoff = Backoff::new(RETRY_BASE, pool.config.backoff_max);
    let mut retries = 0;
    loop {
        let failure = match attempt(pool, request, started, deadline).await {
            Ok(answers) => return Ok(answers),
            Err(failure) => failure,
        };
        let may_retry = failure.not_executed || request.is_idempotent();
        let pause = backoff.delay(retries + 1);
        let time_left = deadline.remaining() > pause;
        if !(failure.transient && may_retry && retries < pool.config.retries_max && time_left) {
            return Err(failure.error);
        }
        retries += 1;
        add_one(&pool.counters.retries);
        tokio::time::sleep(pause).await;
    }
}

/// A failed attempt and what it means for the next one.
struct Failure {
    error: RedisError,
    /// A later attempt may succeed.
    transient: bool,
    /// The server certainly did not execute the request.
    not_executed: bool,
}

impl Failure {
    fn before_sending(error: RedisError) -> Self {
        Self { error, transient: false, not_executed: true }
    }
}

async fn attempt(
    pool: &Inner,
    request: &Request,
    started: Instant,
    deadline: Deadline,
) -> Result<Answers, Failure> {
    let name = request.name();
    let lane = choose_lane(pool, request);
    let permit = enter(pool, lane, name, started, deadline).await;
    let _permit = permit.map_err(Failure::before_sending)?;
    // The connection is taken after the wait, or it might have been replaced meanwhile.
    let connected = match lane.current() {
        Some(connected) => connected,
        None => wait_offline(pool, lane, name, deadline).await.map_err(Failure::before_sending)?,
    };
    let sent = send(connected.handle(), request, &pool.config.key_prefix);
    match tokio::time::timeout_at(deadline.instant(), sent).await {
        Ok(Ok(values)) => judge(lane, &connected, name, values),
        Ok(Err(source)) => Err(lost(pool, lane, &connected, request, source)),
        Err(_elapsed) => {
            lane.timed_out();
            add_one(&pool.counters.timeouts);
            let error = if request.is_idempotent() {
                RedisError::Timeout { command: name, waited: started.elapsed() }
            } else {
                unknown(pool, name, None)
            };
            Err(Failure { error, transient: false, not_executed: false })
        }
    }
}

/// The lane of the request's key, so that commands on one key keep their order, or another
/// one that is connected if that one is not.
fn choose_lane<'a>(pool: &'a Inner, request: &Request) -> &'a Arc<Lane> {
    let mut hasher = DefaultHasher::new();
    request.commands.first().and_then(Command::last_key).hash(&mut hasher);
    let count = u64::try_from(pool.lanes.len()).unwrap_or(u64::MAX);
    let index = usize::try_from(hasher.finish() % count).unwrap_or(0);
    let preferred = &pool.lanes[index];
    preferred.want();
    if preferred.status() == LaneStatus::Ready {
        return preferred;
    }
    pool.lanes.iter().find(|lane| lane.status() == LaneStatus::Ready).unwrap_or(preferred)
}

async fn enter(
    pool: &Inner,
    lane: &Lane,
    command: &'static str,
    started: Instant,
    deadline: Deadline,
) -> Result<GatePermit, RedisError> {
    // Those who wait for a connection must not hold the permits of those who could go on, so the
    // wait for a connection comes first.
    if lane.current().is_none() {
        wait_offline(pool, lane, command, deadline).await?;
    }
    let turn = deadline.scope(lane.gate().acquire(Location::caller())).await;
    turn.map_err(|refused| match refused {
        GateError::Shed { waiting, .. } => {
            add_one(&pool.counters.shed);
            RedisError::Shed { command, waiting }
        }
        GateError::Timeout { .. } => {
            add_one(&pool.counters.timeouts);
            RedisError::Timeout { command, waited: started.elapsed() }
        }
        GateError::Closed => RedisError::Draining,
    })
}

/// Waits for the lane to connect, as one of at most `offline_queue_max`.
async fn wait_offline(
    pool: &Inner,
    lane: &Lane,
    command: &'static str,
    deadline: Deadline,
) -> Result<Arc<Connected>, RedisError> {
    let _place = OfflinePlace::take(pool, command)?;
    lane.wait_connected(&pool.manager, deadline, pool.config.retries_max).await
}

/// A place in the offline queue, given back on drop.
struct OfflinePlace<'a>(&'a AtomicUsize);

impl<'a> OfflinePlace<'a> {
    fn take(pool: &'a Inner, command: &'static str) -> Result<Self, RedisError> {
        let offline = &pool.counters.offline;
        let max = pool.config.offline_queue_max;
        let join = |waiting: usize| (waiting < max).then_some(waiting + 1);
        match offline.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join) {
            Ok(_) => Ok(Self(offline)),
            Err(waiting) => {
                add_one(&pool.counters.shed);
                Err(RedisError::Shed { command, waiting })
            }
        }
    }
}

impl Drop for OfflinePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn send(
    mut connection: MultiplexedConnection,
    request: &Request,
    key_prefix: &str,
) -> Result<Vec<Value>, redis::RedisError> {
    if let [command] = request.commands.as_slice() {
        let value = connection.send_packed_command(&command.encode(key_prefix)).await?;
        return Ok(vec![value]);
    }
    let mut pipeline = redis::Pipeline::with_capacity(request.commands.len());
    for command in &request.commands {
        pipeline.add_command(command.encode(key_prefix));
    }
    connection.send_packed_commands(&pipeline, 0, request.commands.len()).await
}

/// Looks for answers that say that the server cannot serve us now.
fn judge(
    lane: &Lane,
    connected: &Arc<Connected>,
    command: &'static str,
    values: Vec<Value>,
) -> Result<Answers, Failure> {
    lane.answered();
    if values.iter().any(says_demoted) {
        // The server became a replica: the next connection finds out who took over.
        lane.broken(connected);
    }
    let [Value::ServerError(error)] = values.as_slice() else {
        return Ok(Answers(values));
    };
    let code = error.code().to_owned();
    let source = redis::RedisError::from(error.clone());
    let transient = REFUSED_FOR_NOW.contains(&code.as_str());
    let error = RedisError::Server { command, code, source };
    Err(Failure { error, transient, not_executed: true })
}

fn says_demoted(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if matches!(error.code(), "READONLY" | "MASTERDOWN"))
}

/// The connection ended before the answer came.
fn lost(
    pool: &Inner,
    lane: &Lane,
    connected: &Arc<Connected>,
    request: &Request,
    source: redis::RedisError,
) -> Failure {
    if let Some(code) = source.code() {
        let transient = REFUSED_FOR_NOW.contains(&code);
        return Failure {
            error: server_error(request.name(), source),
            transient,
            not_executed: true,
        };
    }
    lane.broken(connected);
    let error = if request.is_idempotent() {
        let address = pool.manager.address().to_string();
        RedisError::Unreachable { address, source: Some(source) }
    } else {
        unknown(pool, request.name(), Some(source))
    };
    Failure { error, transient: true, not_executed: false }
}

fn unknown(pool: &Inner, command: &'static str, source: Option<redis::RedisError>) -> RedisError {
    add_one(&pool.counters.unknown_outcomes);
    RedisError::UnknownOutcome { command, source }
}
