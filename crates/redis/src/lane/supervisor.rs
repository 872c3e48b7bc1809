//! The task that connects a lane, watches its connection and replaces it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::bb8;
use bb8_redis::redis::{self, Value, aio::MultiplexedConnection};
use forebay_pooling::Backoff;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Connected, Lane, LaneStatus};
use crate::connection::{RedisConnection, is_replica};
use crate::manager::RedisManager;
use crate::signal::Signal;
use crate::stats::{Counters, add_one};

/// The first pause between two attempts to connect while nobody waits for the connection; it
/// doubles up to the configured maximum.
const IDLE_PAUSE_FIRST: Duration = Duration::from_millis(50);
/// How often a lane is asked for a sign of life, so that a half-open socket is found also when
/// nobody sends commands.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// Time a sign of life may take. A silent connection is given up after `PROBE_INTERVAL` and this.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects the lane, watches the connection and replaces it, until aborted.
///
/// `replaced` is raised before the connection that replaces another one is used: who read it before
/// a command and finds it unchanged after the answer knows that the server was not lost meanwhile.
pub(crate) async fn supervise(
    lane: Arc<Lane>,
    pool: bb8::Pool<RedisManager>,
    manager: RedisManager,
    backoff_max: Duration,
    replaced: Arc<AtomicU64>,
    counters: Arc<Counters>,
) {
    lane.wanted.notified().await;
    for number in 1_u64.. {
        let connection = connect(&lane, &pool, &manager, backoff_max).await;
        if number > 1 {
            replaced.fetch_add(1, Ordering::SeqCst);
        }
        lane.answered(Instant::now());
        let closed = Arc::clone(&connection.closed);
        lane.connect(Connected {
            number,
            handle: connection.inner.clone(),
            closed: Arc::clone(&closed),
            gone: Signal::default(),
        });
        tracing::debug!(redis.lane.connection = number, "lane connected");
        let reason = watch_connection(&lane, number, connection).await;
        lane.disconnect();
        add_one(&counters.reconnects);
        tracing::warn!(redis.lane.connection = number, reason, "lane lost its connection");
    }
}

async fn connect(
    lane: &Arc<Lane>,
    pool: &bb8::Pool<RedisManager>,
    manager: &RedisManager,
    backoff_max: Duration,
) -> RedisConnection {
    let backoff = Backoff::new(IDLE_PAUSE_FIRST, backoff_max);
    let mut failures = 0_u32;
    loop {
        lane.status.set(LaneStatus::Connecting);
        match pool.dedicated_connection().await {
            Ok(connection) => return connection,
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = manager.pause();
                lane.status.set(LaneStatus::Reconnecting);
                lane.connect_failed(&manager.unreachable(), manager.is_refused());
                tracing::debug!(error = %error, failures, ?pause, "attempt to connect failed");
                rest(lane, pause, backoff.delay(failures)).await;
            }
        }
    }
}

/// Waits for `pause`, and for longer while nobody wants the connection.
async fn rest(lane: &Lane, pause: Duration, idle_pause: Duration) {
    tokio::time::sleep(pause).await;
    let is_wanted = !lane.state.lock().queue.is_empty();
    if is_wanted || idle_pause <= pause {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(idle_pause - pause) => {}
        () = lane.wanted.notified() => {}
    }
}

/// Returns why the connection must be replaced, once it must.
async fn watch_connection(
    lane: &Lane,
    number: u64,
    mut connection: RedisConnection,
) -> &'static str {
    let closed = Arc::clone(&connection.closed);
    let mut ticks = tokio::time::interval_at(Instant::now() + PROBE_INTERVAL, PROBE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = closed.wait() => return "closed",
            () = lane.suspected.notified() => {}
            _ = ticks.tick() => {}
        }
        let is_current =
            lane.state.lock().connection.as_ref().is_some_and(|current| current.number == number);
        if !is_current {
            return "broken";
        }
        tokio::select! {
            () = closed.wait() => return "closed",
            alive = probe(&mut connection.inner) => match alive {
                Ok(()) => lane.answered(Instant::now()),
                Err(reason) => return reason,
            }
        }
    }
}

/// Asks for a sign of life, and whether the server still takes writes. A server that refuses the
/// command is alive.
async fn probe(connection: &mut MultiplexedConnection) -> Result<(), &'static str> {
    let role = redis::cmd("ROLE");
    let answer = tokio::time::timeout(PROBE_TIMEOUT, role.query_async::<Value>(connection)).await;
    match answer {
        Err(_elapsed) => Err("no sign of life"),
        Ok(Err(error)) if error.is_unrecoverable_error() || error.is_io_error() => Err("broken"),
        Ok(Err(error)) if matches!(error.code(), Some("MASTERDOWN" | "LOADING")) => {
            Err("not ready")
        }
        Ok(Ok(Value::Array(role))) if is_replica(&role) => Err("became a replica"),
        Ok(_) => Ok(()),
    }
}
