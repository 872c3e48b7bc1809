//! One shared, pipelined connection and the task that keeps it alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bb8_redis::bb8;
use bb8_redis::redis::{self, Value, aio::MultiplexedConnection};
use forebay_pooling::{Backoff, Deadline, Gate, GateConfig};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::RedisError;
use crate::manager::{RedisConnection, RedisManager};
use crate::stats::{Counters, add_one};

/// The first pause between two attempts to connect; it doubles up to the configured maximum.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// How often a lane is asked for a sign of life, so that a half-open socket is found also when
/// nobody sends commands.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Time a sign of life may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Timeouts in a row after which a lane is suspected: one slow command proves nothing.
const TIMEOUTS_IN_A_ROW_MAX: u32 = 3;
/// Commands that may wait for their turn on one lane; one more is shed.
const WAITING_MAX: usize = 8192;

/// In which state a lane is, in the words of ioredis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LaneStatus {
    /// Closed for good.
    End,
    /// Not wanted by anyone yet.
    Wait,
    /// Never connected so far.
    Connecting,
    /// Was connected before.
    Reconnecting,
    /// Commands can be sent.
    Ready,
}

impl LaneStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Wait => "wait",
            Self::Connecting => "connecting",
            Self::Reconnecting => "reconnecting",
            Self::Ready => "ready",
        }
    }
}

/// A connection of a lane. The number tells it apart from the one before, so that a late report
/// about the old one does not close the new one.
#[derive(Debug)]
pub(crate) struct Connected {
    number: u64,
    connection: MultiplexedConnection,
}

impl Connected {
    /// A handle on the connection; all handles share one socket.
    pub(crate) fn handle(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

/// A shared, pipelined connection that replaces itself.
#[derive(Debug)]
pub(crate) struct Lane {
    connected: ArcSwapOption<Connected>,
    status: watch::Sender<LaneStatus>,
    wanted: Notify,
    suspected: Notify,
    timeouts_in_a_row: AtomicU32,
    gate: Gate,
}

impl Lane {
    pub(crate) fn new(in_flight_max: usize, timeout: Duration) -> Self {
        Self {
            connected: ArcSwapOption::empty(),
            status: watch::channel(LaneStatus::Wait).0,
            wanted: Notify::new(),
            suspected: Notify::new(),
            timeouts_in_a_row: AtomicU32::new(0),
            gate: Gate::new(GateConfig {
                reserved: Some(0),
                ..GateConfig::new(in_flight_max, WAITING_MAX, timeout)
            }),
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn status(&self) -> LaneStatus {
        *self.status.borrow()
    }

    /// The connection if there is one now.
    pub(crate) fn current(&self) -> Option<Arc<Connected>> {
        self.connected.load_full()
    }

    /// Asks for a connection: the first caller makes the lane connect.
    pub(crate) fn want(&self) {
        if self.status() == LaneStatus::Wait {
            self.wanted.notify_one();
        }
    }

    /// Waits for a connection until `deadline`, or until `failures_max + 1` attempts to connect
    /// have failed meanwhile, or until it is clear that none can succeed.
    pub(crate) async fn wait_connected(
        &self,
        manager: &RedisManager,
        deadline: Deadline,
        failures_max: u32,
    ) -> Result<Arc<Connected>, RedisError> {
        let mut status = self.status.subscribe();
        let mut failures = manager.attempts().watch();
        let failures_before = *failures.borrow_and_update();
        self.want();
        loop {
            if let Some(connected) = self.current() {
                return Ok(connected);
            }
            if *status.borrow_and_update() == LaneStatus::End {
                return Err(RedisError::Draining);
            }
            let failed = *failures.borrow_and_update() - failures_before;
            if failed > u64::from(failures_max) || (failed > 0 && manager.is_refused()) {
                return Err(manager.unreachable());
            }
            let either = async {
                tokio::select! {
                    // Both senders live as long as the lane and its manager.
                    _ = status.changed() => {}
                    _ = failures.changed() => {}
                }
            };
            if tokio::time::timeout_at(deadline.instant(), either).await.is_err() {
                return Err(manager.unreachable());
            }
        }
    }

    /// The server answered on this lane.
    pub(crate) fn answered(&self) {
        if self.timeouts_in_a_row.load(Ordering::Relaxed) != 0 {
            self.timeouts_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A command on this lane had no answer in time.
    pub(crate) fn timed_out(&self) {
        if self.timeouts_in_a_row.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_IN_A_ROW_MAX {
            self.suspected.notify_one();
        }
    }

    /// This connection cannot be used any more; the next one is opened at once.
    pub(crate) fn broken(&self, connected: &Arc<Connected>) {
        let previous = self.connected.compare_and_swap(connected, None);
        if previous.as_ref().is_some_and(|current| current.number == connected.number) {
            self.suspected.notify_one();
        }
    }

    pub(crate) fn end(&self) {
        self.gate.close();
        self.connected.store(None);
        self.status.send_replace(LaneStatus::End);
    }
}

/// Connects the lane, watches the connection and replaces it, until aborted.
///
/// `replaced` is raised before the connection that replaces another one is used: who read it before
/// a command and finds it unchanged after the answer knows that the server was not lost meanwhile.
pub(crate) async fn supervise(
    lane: Arc<Lane>,
    pool: bb8::Pool<RedisManager>,
    backoff_max: Duration,
    replaced: Arc<AtomicU64>,
    counters: Arc<Counters>,
) {
    lane.wanted.notified().await;
    lane.status.send_replace(LaneStatus::Connecting);
    for number in 1_u64.. {
        let connection = connect(&pool, backoff_max).await;
        if number > 1 {
            replaced.fetch_add(1, Ordering::SeqCst);
        }
        lane.timeouts_in_a_row.store(0, Ordering::Relaxed);
        let handle = connection.inner.clone();
        lane.connected.store(Some(Arc::new(Connected { number, connection: handle })));
        lane.status.send_replace(LaneStatus::Ready);
        tracing::debug!(redis.lane.connection = number, "lane connected");
        let reason = watch_connection(&lane, connection).await;
        lane.connected.store(None);
        lane.status.send_replace(LaneStatus::Reconnecting);
        add_one(&counters.reconnects);
        tracing::warn!(redis.lane.connection = number, reason, "lane lost its connection");
    }
}

async fn connect(pool: &bb8::Pool<RedisManager>, backoff_max: Duration) -> RedisConnection {
    let backoff = Backoff::new(BACKOFF_BASE, backoff_max);
    let mut failures = 0_u32;
    loop {
        match pool.dedicated_connection().await {
            Ok(connection) => return connection,
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = backoff.delay(failures);
                tracing::debug!(error = %error, failures, ?pause, "attempt to connect failed");
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// Returns why the connection must be replaced, once it must.
async fn watch_connection(lane: &Lane, mut connection: RedisConnection) -> &'static str {
    let closed = Arc::clone(&connection.closed);
    let mut ticks = tokio::time::interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = closed.closed() => return "closed",
            () = lane.suspected.notified() => {}
            _ = ticks.tick() => {}
        }
        if lane.current().is_none() {
            return "broken";
        }
        match probe(&mut connection.inner).await {
            Ok(()) => lane.answered(),
            Err(reason) => return reason,
        }
    }
}

/// Asks for a sign of life. A server that refuses the command is alive.
async fn probe(connection: &mut MultiplexedConnection) -> Result<(), &'static str> {
    let ping = redis::cmd("PING");
    let answer = tokio::time::timeout(PROBE_TIMEOUT, ping.query_async::<Value>(connection)).await;
    match answer {
        Err(_elapsed) => Err("no sign of life"),
        Ok(Err(error)) if error.is_unrecoverable_error() || error.is_io_error() => Err("broken"),
        Ok(Err(error)) if matches!(error.code(), Some("MASTERDOWN" | "LOADING")) => {
            Err("not ready")
        }
        Ok(_) => Ok(()),
    }
}
