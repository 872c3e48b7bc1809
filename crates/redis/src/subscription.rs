//! Listening on a channel, with every gap in the listening made visible.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
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

/// Events that may wait for the consumer, and `redis.subscription_bytes_max` bounds the bytes of
/// their messages. When one more comes, the subscription starts over, and the consumer sees a
/// [`Event::Disconnected`] in the place of what was lost.
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
    held: Held,
    task: AbortHandle,
}

impl Subscription {
    pub(crate) fn start(pool: &RedisPool, channel: &str) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let counters = Arc::clone(&pool.0.counters);
        counters.subscriptions.fetch_add(1, Relaxed);
        let bytes_max = pool.0.config.subscription_bytes_max;
        let held = Held { bytes: Arc::default(), bytes_max, counters };
        let sender = Events { sender, held: held.clone() };
        let listener = Listener {
            manager: pool.0.manager.clone(),
            counters: Arc::clone(&pool.0.counters),
            channel: [pool.0.config.key_prefix.as_str(), channel].concat(),
            backoff: Backoff::new(BACKOFF_BASE, pool.0.config.backoff_max.min(BACKOFF_MAX)),
            sender,
        };
        Self { events, held, task: tokio::spawn(listener.run()).abort_handle() }
    }

    /// The next event. Cancel-safe.
    pub async fn next(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => {
                self.held.leave(&event);
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
        while let Ok(event) = self.events.try_recv() {
            self.held.leave(&event);
        }
        self.held.counters.subscriptions.fetch_sub(1, Relaxed);
    }
}

/// What waits for the consumer of one subscription.
#[derive(Debug, Clone)]
struct Held {
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    counters: Arc<Counters>,
}

impl Held {
    /// Counts an event in, unless its bytes do not fit.
    fn enter(&self, event: &Event) -> bool {
        let bytes = bytes_of(event);
        let fit = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let fits = bytes == 0 || self.bytes.fetch_update(Relaxed, Relaxed, fit).is_ok();
        if fits {
            self.counters.subscription_events.fetch_add(1, Relaxed);
            self.counters.subscription_bytes.fetch_add(bytes, Relaxed);
        }
        fits
    }

    fn leave(&self, event: &Event) {
        let bytes = bytes_of(event);
        self.bytes.fetch_sub(bytes, Relaxed);
        self.counters.subscription_events.fetch_sub(1, Relaxed);
        self.counters.subscription_bytes.fetch_sub(bytes, Relaxed);
    }
}

/// What an event holds beside its place in the queue.
fn bytes_of(event: &Event) -> usize {
    match event {
        Event::Message(message) => message.len(),
        Event::Connected | Event::CaughtUp(_) | Event::Disconnected => 0,
    }
}

/// The queue to the consumer, with what is in it counted.
#[derive(Debug, Clone)]
struct Events {
    sender: mpsc::Sender<Event>,
    held: Held,
}

impl Events {
    /// Whether the event has a place in the queue.
    fn offer(&self, event: Event) -> bool {
        // Counted first, or the consumer might count it out before it is in.
        if !self.held.enter(&event) {
            return false;
        }
        match self.sender.try_send(event) {
            Ok(()) => true,
            Err(refused) => {
                self.held.leave(&refused.into_inner());
                false
            }
        }
    }

    /// Waits for a place; `false` if the consumer is gone.
    async fn place(&self, event: Event) -> bool {
        match self.sender.reserve().await {
            Ok(place) => {
                // Only a gap is told this way, and that has no bytes.
                self.held.enter(&event);
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
