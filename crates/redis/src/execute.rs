//! How a request gets from a caller to a lane and back: deadline, retries, outcome.

use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, Value};
use forebay_pooling::{Backoff, Deadline};
use tokio::time::Instant;
use tracing::Instrument;

use crate::error::NOT_READY;
use crate::lane::{Delivered, Lane, Refused, Returned, Submitted, Withdrawn};
use crate::pool::Inner;
use crate::request::{Answers, Head, Request, server_error};
use crate::stats::add_one;
use crate::{RedisError, RedisPool, span};

/// The first pause before a command is sent again; it doubles each time.
const RETRY_BASE: Duration = Duration::from_millis(10);

/// Sends a request under a span and records how long it took.
pub(crate) async fn execute(
    pool: &RedisPool,
    request: Request,
    timeout: Duration,
) -> Result<Answers, RedisError> {
    let started = Instant::now();
    let own = Deadline::at(started + timeout);
    let deadline = Deadline::current().map_or(own, |current| current.earliest(own));
    let Head { name, script, .. } = request.head;
    let span = span::of(name, pool.0.manager.address(), request.batch(), script);
    let attempts = Attempts { pool: &pool.0, head: request.head, started, deadline };
    let result = if span.is_disabled() {
        attempts.run(request).await
    } else {
        attempts.run(request).instrument(span.clone()).await
    };
    if let Err(error) = &result {
        span::failed(&span, error);
    }
    pool.0.durations.record(name, started.elapsed(), result.as_ref().err());
    result
}

/// A failed attempt.
struct Failure {
    error: RedisError,
    /// The request, if it may be sent again and that may help.
    again: Option<Box<Request>>,
}

impl Failure {
    fn last(error: RedisError) -> Self {
        Self { error, again: None }
    }
}

/// The attempts of one request.
struct Attempts<'a> {
    pool: &'a Inner,
    head: Head,
    started: Instant,
    deadline: Deadline,
}

impl Attempts<'_> {
    async fn run(&self, mut request: Request) -> Result<Answers, RedisError> {
        let config = &self.pool.config;
        let mut retries = 0;
        let mut now = self.started;
        loop {
            let failure = match self.attempt(request, now).await {
                Ok(answers) => {
                    self.pool.retry_budget.succeeded();
                    return Ok(answers);
                }
                Err(failure) => failure,
            };
            let Some(again) = failure.again.filter(|_| retries < config.retries_max) else {
                return Err(failure.error);
            };
            let pause = Backoff::new(RETRY_BASE, config.backoff_max).delay(retries + 1);
            if self.deadline.remaining() <= pause || !self.pool.retry_budget.may_retry() {
                return Err(failure.error);
            }
            retries += 1;
            tokio::time::sleep(pause).await;
            request = *again;
            now = Instant::now();
        }
    }

    async fn attempt(&self, request: Request, now: Instant) -> Result<Answers, Failure> {
        let lane = self.pool.lane();
        let until = self.deadline.instant();
        match lane.submit(request, now) {
            Err(refused) => Err(Failure::last(self.refused(refused))),
            Ok(Submitted::Sent(mut solo)) => {
                match tokio::time::timeout_at(until, solo.delivered()).await {
                    Ok(delivered) => self.sort(lane, delivered),
                    Err(_elapsed) => Err(self.out_of_time(lane, Withdrawn::Sent)),
                }
            }
            Ok(Submitted::Queued(mut place)) => {
                match tokio::time::timeout_at(until, place.delivered()).await {
                    Ok(delivered) => self.sort(lane, delivered),
                    Err(_elapsed) => Err(self.out_of_time(lane, place.withdraw())),
                }
            }
        }
    }

    /// What came back, as an answer or as a failure.
    fn sort(&self, lane: &Arc<Lane>, delivered: Delivered) -> Result<Answers, Failure> {
        match delivered {
            Ok((Answers::One(Value::ServerError(error)), _)) => {
                Err(Failure::last(server_error(self.head.name, error.into())))
            }
            Ok((answers, number)) => {
                if answers.as_slice().iter().any(says_not_ready) {
                    lane.broken(number);
                }
                Ok(answers)
            }
            Err(Returned::Unsent(refused)) => Err(Failure::last(self.refused(refused))),
            Err(Returned::NotExecuted(request, number, error)) => {
                if NOT_READY.contains(&error.code()) {
                    // The next connection finds out who took over.
                    lane.broken(number);
                }
                let error = server_error(self.head.name, error.into());
                Err(Failure { error, again: Some(request) })
            }
            Err(Returned::Lost(request, number, source)) => {
                lane.broken(number);
                Err(self.lost(request, source))
            }
        }
    }

    fn refused(&self, refused: Refused) -> RedisError {
        match refused {
            Refused::Shed { waiting } => {
                add_one(&self.pool.counters.shed);
                RedisError::Shed { command: self.head.name, waiting }
            }
            Refused::Draining => RedisError::Draining,
            Refused::NoConnection(error) => error,
        }
    }

    /// The connection ended before the answer came.
    fn lost(&self, request: Box<Request>, source: redis::RedisError) -> Failure {
        if !self.head.repeatable {
            return Failure::last(self.unknown(Some(source)));
        }
        let address = self.pool.manager.address().to_string();
        let error = RedisError::Unreachable { address, source: Some(source) };
        Failure { error, again: Some(request) }
    }

    fn out_of_time(&self, lane: &Lane, withdrawn: Withdrawn) -> Failure {
        if withdrawn == Withdrawn::Offline {
            return Failure::last(self.pool.manager.unreachable());
        }
        add_one(&self.pool.counters.timeouts);
        if withdrawn == Withdrawn::Sent {
            lane.timed_out();
            if !self.head.repeatable {
                return Failure::last(self.unknown(None));
            }
        }
        let waited = self.started.elapsed();
        Failure::last(RedisError::Timeout { command: self.head.name, waited })
    }

    fn unknown(&self, source: Option<redis::RedisError>) -> RedisError {
        add_one(&self.pool.counters.unknown_outcomes);
        RedisError::UnknownOutcome { command: self.head.name, source }
    }
}

fn says_not_ready(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if NOT_READY.contains(&error.code()))
}
