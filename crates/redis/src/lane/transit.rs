//! How requests get from a lane to the server and their answers back to the callers.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bb8_redis::redis;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::task::unconstrained;
use tokio::time::Instant;

use super::delivery::{Delivered, Refused, Returned, deliver_one};
use super::message::Message;
use super::queue::Queued;
use super::{Connected, FlightRecord, Lane, State};
use crate::request::{Answers, Payload, Request};

/// Messages that are on their way before requests gather. Two keep the server busy while answers
/// travel; with more, fewer requests share a message. Measured on loopback, processor time of this
/// process for a GET at 64 and 512 callers: 1.3 and 1.1 us with two, 1.5 and 1.1 us with four, 1.6
/// and 1.3 us with eight; 2.2 and 2.6 us by the bare driver.
const FLIGHTS_BUSY: usize = 2;
/// When nothing has left for this long, the next request takes what has gathered with it, however
/// much is on its way: where answers take long, requests do not wait for them.
const GATHER_MAX: Duration = Duration::from_micros(250);
/// Messages that may be on their way in any case. The driver's queue has room for all of them.
const FLIGHTS_MAX: usize = 16;

/// A request that a lane has taken.
#[derive(Debug)]
pub(crate) enum Submitted {
    /// It is on its way already.
    Sent(Solo),
    /// It waits for its turn.
    Queued(Place),
}

impl Lane {
    /// Takes a request, or tells why it does not.
    pub(crate) fn submit(
        self: &Arc<Self>,
        request: Request,
        now: Instant,
    ) -> Result<Submitted, Refused> {
        let mut state = self.state.lock();
        if state.draining {
            return Err(Refused::Draining);
        }
        let commands = request.len();
        if let Some(connected) = state.may_board(commands, self.limits.in_flight_max, now) {
            let flight = state.board(self, commands, now);
            drop(state);
            let (solo, others_wait) = Solo::depart(flight, connected, request);
            // Those who came meanwhile found the door shut.
            if others_wait {
                self.depart();
            }
            return Ok(Submitted::Sent(solo));
        }
        let waiting = state.queue.len();
        let place = if state.connection.is_some() {
            if waiting >= self.limits.waiting_max {
                return Err(Refused::Shed { waiting });
            }
            None
        } else {
            match self.offline.take(request.bytes()) {
                Ok(place) => Some(place),
                Err(waiting) => {
                    return Err(Refused::Shed { waiting });
                }
            }
        };
        let is_offline = place.is_some();
        let failures = state.failures;
        let (ticket, answer) = state.queue.push(request, failures, place);
        let may_leave = state.free_connection(now).is_some();
        drop(state);
        if is_offline {
            self.wanted.notify_one();
        }
        if may_leave {
            self.depart();
        }
        Ok(Submitted::Queued(Place { lane: Arc::clone(self), ticket, answer: Some(answer) }))
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn depart(self: &Arc<Self>) {
        while let Some((flight, connected, requests)) = self.load() {
            let message = Message::depart(flight, connected, requests);
            self.runtime.spawn(message.deliver());
        }
    }

    fn load(self: &Arc<Self>) -> Option<(Flight, Arc<Connected>, Vec<Queued>)> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let connected = state.free_connection(now)?;
        let room = self.limits.in_flight_max.saturating_sub(state.commands_in_flight);
        if state.queue.is_empty() || room == 0 {
            return None;
        }
        let requests = state.queue.take_message(room);
        let commands = requests.iter().map(|queued| queued.request.len()).sum();
        let flight = state.board(self, commands, now);
        Some((flight, connected, requests))
    }

    fn landed(self: &Arc<Self>, number: u64) {
        let (more, idle) = {
            let mut state = self.state.lock();
            if let Some(index) = state.flights.iter().position(|flight| flight.number == number) {
                let landed = state.flights.swap_remove(index);
                state.commands_in_flight -= landed.commands;
            }
            let more = !state.queue.is_empty();
            (more, state.draining && !more && state.flights.is_empty())
        };
        if more {
            self.depart();
        }
        if idle {
            self.idle.notify_waiters();
        }
    }
}

impl State {
    /// The connection, if a message may leave on it now.
    fn free_connection(&self, now: Instant) -> Option<Arc<Connected>> {
        let connected = self.connection.as_ref()?;
        let count = self.flights.len();
        let has_room = count < FLIGHTS_BUSY
            || count < FLIGHTS_MAX
                && self.departed.is_none_or(|at| now.saturating_duration_since(at) >= GATHER_MAX);
        let is_free = !self.boarding && has_room && !connected.closed.is_raised();
        is_free.then(|| Arc::clone(connected))
    }

    /// The connection, if a request may leave without waiting for its turn.
    fn may_board(
        &self,
        commands: usize,
        in_flight_max: usize,
        now: Instant,
    ) -> Option<Arc<Connected>> {
        let fits = self.commands_in_flight == 0
            || self.commands_in_flight.saturating_add(commands) <= in_flight_max;
        if fits && self.queue.is_empty() { self.free_connection(now) } else { None }
    }

    fn board(&mut self, lane: &Arc<Lane>, commands: usize, now: Instant) -> Flight {
        self.boarding = true;
        self.departed = Some(now);
        self.flights_so_far += 1;
        let number = self.flights_so_far;
        self.flights.push(FlightRecord { number, since: now, commands });
        self.commands_in_flight += commands;
        Flight { lane: Arc::clone(lane), number }
    }
}

/// One message under way. Dropped, it makes room for the next one.
#[derive(Debug)]
pub(super) struct Flight {
    lane: Arc<Lane>,
    number: u64,
}

impl Flight {
    pub(super) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// The message has been handed to the driver: the next one may be. Tells whether there is
    /// anything to be sent.
    pub(super) fn boarded(&self) -> bool {
        let mut state = self.lane.state.lock();
        state.boarding = false;
        !state.queue.is_empty()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.lane.landed(self.number);
    }
}

/// The answers or the loss of a message, and what was sent.
pub(super) type Outcome<T> = (Result<Answers, redis::RedisError>, T);

/// A message that the driver has.
pub(super) struct Sending<T> {
    future: BoxFuture<'static, Outcome<T>>,
    early: Option<Box<Outcome<T>>>,
}

impl<T: Send + 'static> Sending<T> {
    /// The first poll puts the message into the driver's queue, which has room for every message
    /// that can be under way: messages reach the server in the order of these calls.
    pub(super) fn start(future: impl Future<Output = Outcome<T>> + Send + 'static) -> Self {
        let mut future: BoxFuture<'static, Outcome<T>> = Box::pin(future);
        let mut context = Context::from_waker(Waker::noop());
        // Unconstrained: a task that has done much in one go is told by tokio that nothing is
        // ready, and its message would stay here and be overtaken.
        let early = match pin!(unconstrained(future.as_mut())).poll(&mut context) {
            Poll::Ready(outcome) => Some(Box::new(outcome)),
            Poll::Pending => None,
        };
        Self { future, early }
    }

    pub(super) async fn outcome(&mut self) -> Outcome<T> {
        match self.early.take() {
            Some(outcome) => *outcome,
            None => self.future.as_mut().await,
        }
    }
}

impl<T> std::fmt::Debug for Sending<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// The answer to `sent`, or the loss of it once the lane gives the connection up. Without that, the
/// callers on a silent connection would sit out their whole timeout.
pub(super) async fn unless_gone<T>(
    connected: &Connected,
    sent: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, redis::RedisError> {
    tokio::select! {
        biased;
        answer = sent => answer,
        () = connected.gone.wait() => {
            Err((redis::ErrorKind::Io, "the connection gave no sign of life").into())
        }
    }
}

/// A request that left alone.
#[derive(Debug)]
pub(crate) struct Solo {
    sending: Sending<Request>,
    number: u64,
    flight: Flight,
}

impl Solo {
    /// On its way, and whether others came meanwhile.
    fn depart(flight: Flight, connected: Arc<Connected>, request: Request) -> (Self, bool) {
        let number = connected.number;
        let sending = Sending::start(async move {
            let mut handle = connected.handle.clone();
            let answers = match &request.payload {
                Payload::One(cmd) => {
                    let sent = handle.send_packed_command(cmd);
                    unless_gone(&connected, sent).await.map(Answers::One)
                }
                Payload::Many(pipeline) => {
                    let sent = handle.send_packed_commands(pipeline, 0, pipeline.len());
                    unless_gone(&connected, sent).await.map(Answers::Many)
                }
            };
            (answers, request)
        });
        let others_wait = flight.boarded();
        (Self { sending, number, flight }, others_wait)
    }

    /// The answer. Dropped before it came, it is not waited for any more.
    pub(crate) async fn delivered(&mut self) -> Delivered {
        match self.sending.outcome().await {
            (Ok(answers), request) => {
                self.flight.lane.answered(Instant::now());
                match answers {
                    Answers::One(value) => deliver_one(value, self.number, || request),
                    Answers::Many(_) => Ok((answers, self.number)),
                }
            }
            (Err(cause), request) => Err(Returned::Lost(Box::new(request), self.number, cause)),
        }
    }
}

/// A request in the queue of a lane. Dropped, it leaves the queue.
#[derive(Debug)]
pub(crate) struct Place {
    lane: Arc<Lane>,
    ticket: u64,
    answer: Option<oneshot::Receiver<Delivered>>,
}

/// How far a request came whose caller waits no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// It waited for a connection.
    Offline,
    /// It waited for its turn.
    Waiting,
    /// It was sent.
    Sent,
}

impl Place {
    /// The answer. Cancel-safe: it can be waited for again.
    pub(crate) async fn delivered(&mut self) -> Delivered {
        let Some(answer) = self.answer.as_mut() else {
            return std::future::pending().await;
        };
        match answer.await {
            Ok(delivered) => {
                self.answer = None;
                delivered
            }
            // The sender is dropped without a word only when the runtime ends.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Leaves the queue.
    pub(crate) fn withdraw(mut self) -> Withdrawn {
        self.answer = None;
        let withdrawn = self.lane.state.lock().queue.withdraw(self.ticket);
        match withdrawn {
            Some(true) => Withdrawn::Offline,
            Some(false) => Withdrawn::Waiting,
            None => Withdrawn::Sent,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.answer.is_some() {
            self.lane.state.lock().queue.withdraw(self.ticket);
        }
    }
}
