//! One shared, pipelined connection: what waits for it, what travels on it, what state it is in.
//!
//! Requests leave in the order in which they came. While few messages are on their way, a request
//! leaves at once; above that, requests gather and leave together when a message has been answered:
//! the busier a lane is, the more requests share one message, one write and one wake-up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use forebay_pooling::Deadline;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::RedisError;
use crate::offline::Offline;
use crate::signal::Signal;

mod delivery;
mod message;
mod queue;
mod status;
mod supervisor;
mod transit;

pub(crate) use delivery::{Delivered, Refused, Returned};
pub(crate) use status::{LaneStatus, StatusCell};
pub(crate) use supervisor::supervise;
pub(crate) use transit::{Submitted, Withdrawn};

use queue::Queue;

/// Timeouts in a row after which a lane is suspected: one slow command proves nothing.
const TIMEOUTS_IN_A_ROW_MAX: u32 = 3;

/// A connection of a lane. The number tells it apart from the one before, so that a late report
/// about the old one does not close the new one.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) number: u64,
    handle: MultiplexedConnection,
    /// The driver reported the end of the connection.
    closed: Arc<Signal>,
    /// The lane gave the connection up: no answer is waited for any longer.
    gone: Signal,
}

/// How much a lane takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Commands sent and not yet answered.
    pub(crate) in_flight_max: usize,
    /// Requests that wait for their turn while the lane is connected.
    pub(crate) waiting_max: usize,
    /// Failed attempts to connect that a request waits through.
    pub(crate) failures_max: u32,
}

/// A shared, pipelined connection that replaces itself.
#[derive(Debug)]
pub(crate) struct Lane {
    limits: Limits,
    state: Mutex<State>,
    status: Arc<StatusCell>,
    offline: Arc<Offline>,
    runtime: Handle,
    /// Whether `state` has a connection, to be read without its lock.
    connected: AtomicBool,
    wanted: Notify,
    suspected: Notify,
    idle: Notify,
    timeouts_in_a_row: AtomicU32,
    epoch: Instant,
    /// Milliseconds from `epoch` to the last answer.
    answered_ms: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Arc<Connected>>,
    queue: Queue,
    /// Messages sent and not yet answered.
    flights: Vec<FlightRecord>,
    commands_in_flight: usize,
    flights_so_far: u64,
    /// When the latest message left.
    departed: Option<Instant>,
    /// Somebody hands a message to the driver. Nobody else does meanwhile, or a later message
    /// could overtake it.
    boarding: bool,
    failures: u64,
    draining: bool,
}

#[derive(Debug)]
struct FlightRecord {
    number: u64,
    since: Instant,
    commands: usize,
}

/// A lane at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneSnapshot {
    pub(crate) status: LaneStatus,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) oldest_in_flight: Option<Duration>,
    pub(crate) answered_ago: Option<Duration>,
}

impl Lane {
    pub(crate) fn new(limits: Limits, offline: Arc<Offline>, status: Arc<StatusCell>) -> Self {
        Self {
            limits,
            state: Mutex::default(),
            status,
            offline,
            runtime: Handle::current(),
            connected: AtomicBool::new(false),
            wanted: Notify::new(),
            suspected: Notify::new(),
            idle: Notify::new(),
            timeouts_in_a_row: AtomicU32::new(0),
            epoch: Instant::now(),
            answered_ms: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot(&self) -> LaneSnapshot {
        let now = Instant::now();
        let answered = match self.answered_ms.load(Ordering::Relaxed) {
            u64::MAX => None,
            ms => Some(self.epoch + Duration::from_millis(ms)),
        };
        let state = self.state.lock();
        let oldest = state.flights.iter().map(|flight| flight.since).min();
        let waiting = if state.connection.is_some() { state.queue.len() } else { 0 };
        LaneSnapshot {
            status: if state.draining { self.status.get().draining() } else { self.status.get() },
            in_flight: state.commands_in_flight,
            waiting,
            oldest_in_flight: oldest.map(|since| now.saturating_duration_since(since)),
            answered_ago: answered.map(|at| now.saturating_duration_since(at)),
        }
    }

    /// Asks for a connection: the first caller makes the lane connect.
    pub(crate) fn want(&self) {
        if self.status.get() == LaneStatus::Wait {
            self.wanted.notify_one();
        }
    }

    /// The server answered on this lane.
    pub(crate) fn answered(&self, now: Instant) {
        let ms = u64::try_from((now - self.epoch).as_millis()).unwrap_or(u64::MAX - 1);
        // Read first: two processors that write the same line all the time slow each other down.
        if self.answered_ms.load(Ordering::Relaxed) != ms {
            self.answered_ms.store(ms, Ordering::Relaxed);
        }
        if self.timeouts_in_a_row.load(Ordering::Relaxed) != 0 {
            self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A request on this lane had no answer in time.
    pub(crate) fn timed_out(&self) {
        if self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW_MAX {
            self.suspected.notify_one();
        }
    }

    /// The connection of this number cannot be used any more; the next one is opened at once.
    pub(crate) fn broken(&self, number: u64) {
        let current = self.state.lock().connection.as_ref().map(|current| current.number);
        if current == Some(number) {
            self.disconnect();
            self.suspected.notify_one();
        }
    }

    /// Takes no more requests, and waits until none is under way; `false` if `deadline` came first.
    pub(crate) async fn drain(&self, deadline: Deadline) -> bool {
        self.state.lock().draining = true;
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Registered before the check, or the last answer between the two would be missed.
            idle.as_mut().enable();
            if self.is_idle() {
                return true;
            }
            if tokio::time::timeout_at(deadline.instant(), idle).await.is_err() {
                return self.is_idle();
            }
        }
    }

    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.flights.is_empty() && state.queue.is_empty()
    }

    /// Closes the lane for good.
    pub(crate) fn end(&self) {
        self.state.lock().draining = true;
        self.disconnect();
        self.status.set(LaneStatus::End);
        let rest = self.state.lock().queue.take_all();
        for queued in rest {
            queued.refuse(Refused::Draining);
        }
        self.idle.notify_waiters();
    }

    /// Uses `connection` from now on and sends what waited for it.
    fn connect(self: &Arc<Self>, connected: Connected) {
        self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        {
            let mut state = self.state.lock();
            if self.status.get() == LaneStatus::End {
                return;
            }
            state.connection = Some(Arc::new(connected));
            state.failures = 0;
            state.queue.came_online();
        }
        self.connected.store(true, Ordering::Release);
        self.status.set(LaneStatus::Ready);
        self.depart();
    }

    /// Gives the connection up: whoever waits for an answer on it is told, and what has not been
    /// sent moves to the offline queue as far as that has room.
    fn disconnect(&self) {
        self.connected.store(false, Ordering::Release);
        let (connected, surplus) = {
            let mut state = self.state.lock();
            let connected = state.connection.take();
            let surplus = state.queue.went_offline(&self.offline);
            (connected, surplus)
        };
        if let Some(connected) = connected {
            self.status.set(LaneStatus::Close);
            connected.gone.raise();
        }
        for queued in surplus {
            queued.refuse(Refused::Shed { waiting: self.offline.held().requests });
        }
    }

    /// An attempt to connect failed. Requests that waited through enough of them are told why, all
    /// of them if no attempt can succeed.
    fn connect_failed(&self, error: &RedisError, is_refused: bool) {
        let given_up = {
            let mut state = self.state.lock();
            state.failures += 1;
            let failures = state.failures;
            if is_refused {
                state.queue.take_all()
            } else {
                state.queue.take_while_since(failures, u64::from(self.limits.failures_max))
            }
        };
        for queued in given_up {
            queued.refuse(Refused::NoConnection(error.clone()));
        }
    }
}
