//! Listening on a channel, with every gap in the listening made visible.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use bb8_redis::redis::{self, PushInfo, PushKind, Value};
use bytes::Bytes;
use forebay_pooling::Backoff;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::RedisPool;
use crate::connection::RedisConnection;
use crate::manager::RedisManager;
use crate::stats::{Counters, add_one};

/// Events that may wait for the consumer. When one more comes, the subscription starts over, and
/// the consumer sees a [`Event::Disconnected`] in the place of what was lost.
const EVENTS_MAX: usize = 4096;
/// The first pause between two attempts to connect; it doubles up to the configured maximum, and
/// not beyond the second one: a subscription is always wanted.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How often the server is asked for a sign of life.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(200);
/// Time a sign of life may take before the connection counts as lost.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1000);

/// What happened on a subscribed channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server confirmed the subscription: every message published from now on arrives, until
    /// the next [`Event::Disconnected`].
    Connected,
    /// A message.
    Message(Bytes),
    /// Every message that was published before this instant has been yielded.
    CaughtUp(Instant),
    /// Messages may be missed from now on, and some may have been missed already. Also sent, once,
    /// when the first attempt to connect has failed.
    Disconnected,
}

/// A channel listened on until this is dropped, across reconnections.
#[derive(Debug)]
pub struct Subscription {
    events: mpsc::Receiver<Event>,
    counters: Arc<Counters>,
    task: AbortHandle,
}

impl Subscription {
    pub(crate) fn start(pool: &RedisPool, channel: &str) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let counters = Arc::clone(&pool.0.counters);
        counters.subscriptions.fetch_add(1, Relaxed);
        let sender = Events { sender, counters: Arc::clone(&counters) };
        let listener = Listener {
            manager: pool.0.manager.clone(),
            counters: Arc::clone(&pool.0.counters),
            channel: [pool.0.config.key_prefix.as_str(), channel].concat(),
            backoff: Backoff::new(BACKOFF_BASE, pool.0.config.backoff_max.min(BACKOFF_MAX)),
            sender,
        };
        Self { events, counters, task: tokio::spawn(listener.run()).abort_handle() }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => {
                self.counters.subscription_events.fetch_sub(1, Relaxed);
                event
            }
            // The listener ends only when it is aborted, which is when this is dropped or when
            // the runtime shuts down: there is nobody left to wait for.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.abort();
        self.events.close();
        while self.events.try_recv().is_ok() {
            self.counters.subscription_events.fetch_sub(1, Relaxed);
        }
        self.counters.subscriptions.fetch_sub(1, Relaxed);
    }
}

/// The queue to the consumer, with its length counted.
#[derive(Debug, Clone)]
struct Events {
    sender: mpsc::Sender<Event>,
    counters: Arc<Counters>,
}

impl Events {
    /// Whether the event has a place in the queue.
    fn offer(&self, event: Event) -> bool {
        // Counted first, or the consumer might count it out before it is in.
        self.counters.subscription_events.fetch_add(1, Relaxed);
        let is_queued = self.sender.try_send(event).is_ok();
        if !is_queued {
            self.counters.subscription_events.fetch_sub(1, Relaxed);
        }
        is_queued
    }

    /// Waits for a place; `false` if the consumer is gone.
    async fn place(&self, event: Event) -> bool {
        match self.sender.reserve().await {
            Ok(place) => {
                self.counters.subscription_events.fetch_add(1, Relaxed);
                place.send(event);
                true
            }
            Err(_gone) => false,
        }
    }
}

/// What happened on one connection of a subscription.
#[derive(Debug, Default)]
struct Seen {
    /// The consumer was told that messages arrive.
    announced: AtomicBool,
    /// A message did not fit into the queue.
    lost: AtomicBool,
}

struct Listener {
    manager: RedisManager,
    counters: Arc<Counters>,
    channel: String,
    backoff: Backoff,
    sender: Events,
}

impl Listener {
    async fn run(self) {
        let mut failures = 0_u32;
        let mut is_first_attempt = true;
        loop {
            let seen = Arc::new(Seen::default());
            match self.connect(&seen).await {
                Ok(connection) => {
                    failures = 0;
                    let reason = self.listen(connection, &seen.lost).await;
                    tracing::warn!(redis.channel = self.channel, reason, "subscription lost");
                    add_one(&self.counters.reconnects);
                }
                Err(error) => {
                    tracing::debug!(error = %error, failures, "attempt to subscribe failed");
                }
            }
            let tells = seen.announced.load(SeqCst) || is_first_attempt;
            is_first_attempt = false;
            if tells && !self.sender.place(Event::Disconnected).await {
                return;
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(self.manager.pause().max(self.backoff.delay(failures))).await;
        }
    }

    /// Connects and subscribes. `Connected` is in the queue before any message.
    async fn connect(&self, seen: &Arc<Seen>) -> Result<RedisConnection, redis::RedisError> {
        let sender = self.sender.clone();
        let seen = Arc::clone(seen);
        let on_push = move |push: PushInfo| {
            let event = match push.kind {
                PushKind::Subscribe => {
                    seen.announced.store(true, SeqCst);
                    Some(Event::Connected)
                }
                PushKind::Message => payload(push.data).map(Event::Message),
                _ => None,
            };
            // The driver must not be held up here. An event that does not fit is a gap.
            if let Some(event) = event
                && (seen.lost.load(SeqCst) || !sender.offer(event))
            {
                seen.lost.store(true, SeqCst);
            }
        };
        let mut connection = self.manager.open(on_push).await?;
        let subscribe = async {
            redis::cmd("SUBSCRIBE")
                .arg(&self.channel)
                .query_async::<Value>(&mut connection.inner)
                .await
        };
        match tokio::time::timeout(HEARTBEAT_TIMEOUT, subscribe).await {
            Ok(Ok(_)) => Ok(connection),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err((redis::ErrorKind::Io, "subscribing had no answer").into()),
        }
    }

    /// Returns why the subscription is lost, once it is.
    async fn listen(&self, mut connection: RedisConnection, lost: &AtomicBool) -> &'static str {
        let closed = Arc::clone(&connection.closed);
        let mut ticks = tokio::time::interval(HEARTBEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closed.wait() => return "closed",
                _ = ticks.tick() => {}
            }
            let asked_at = Instant::now();
            let ping = redis::cmd("PING");
            let answer = ping.query_async::<Value>(&mut connection.inner);
            match tokio::time::timeout(HEARTBEAT_TIMEOUT, answer).await {
                Err(_elapsed) => return "no sign of life",
                Ok(Err(_)) => return "broken",
                Ok(Ok(_)) => {}
            }
            // The answer came after all messages published before the question, on the same
            // connection, so they are in the queue already, unless one did not fit.
            if lost.load(SeqCst) || !self.sender.offer(Event::CaughtUp(asked_at)) {
                add_one(&self.counters.subscription_overflows);
                return "the consumer is too slow";
            }
        }
    }
}

/// The payload of a pushed message: `[channel, payload]`.
fn payload(data: Vec<Value>) -> Option<Bytes> {
    match data.into_iter().nth(1) {
        Some(Value::BulkString(bytes)) => Some(Bytes::from(bytes)),
        _ => None,
    }
}
