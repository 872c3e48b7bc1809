//! How a connection is opened, checked and told to be broken.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, AsyncConnectionConfig, ErrorKind, PushInfo, PushKind};
use forebay_config::RedisConfig;
use forebay_pooling::Backoff;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::RedisError;
use crate::address::{Address, Topology, client_name, is_auth};
use crate::connection::RedisConnection;
use crate::lane::{LaneStatus, StatusCell};
use crate::signal::Signal;

/// The first pause between two attempts to connect a lease; it doubles up to the configured
/// maximum.
const BACKOFF_BASE: Duration = Duration::from_millis(50);
/// Messages that the driver's queue takes: more than can be under way on one connection, so that
/// handing one over never waits.
const DRIVER_QUEUE: usize = 64;

/// Opens connections of one kind.
#[derive(Debug, Clone)]
pub(crate) struct RedisManager {
    topology: Topology,
    kind: Kind,
    client_name: String,
    connect_timeout: Duration,
    backoff: Backoff,
    attempts: Arc<Attempts>,
}

/// What a connection is for.
#[derive(Debug, Clone)]
enum Kind {
    /// Shared; checked for readiness, which the lane's status shows.
    Lane(Arc<StatusCell>),
    /// For one caller; any server that answers will do.
    Lease,
    /// For messages of a channel.
    Subscription,
}

/// The failed attempts to connect, for those who wait for one to succeed.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failed: watch::Sender<u64>,
    last_error: Mutex<Option<redis::RedisError>>,
}

impl Attempts {
    /// Failed attempts so far; the receiver wakes for each further one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.failed.subscribe()
    }

    pub(crate) fn failed_so_far(&self) -> u64 {
        *self.failed.borrow()
    }

    fn failed(&self, error: &redis::RedisError) {
        *self.last_error.lock() = Some(error.clone());
        self.failed.send_modify(|failed| *failed += 1);
    }
}

impl RedisManager {
    /// The manager of subscriptions, from which the others are made.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        Ok(Self {
            topology: Topology::new(config)?,
            kind: Kind::Subscription,
            client_name: client_name("subscription"),
            connect_timeout: config.connect_timeout,
            backoff: Backoff::new(BACKOFF_BASE, config.backoff_max),
            attempts: Arc::default(),
        })
    }

    pub(crate) fn for_lane(&self, index: usize, status: Arc<StatusCell>) -> Self {
        let client_name = client_name(&format!("lane-{index}"));
        Self { kind: Kind::Lane(status), client_name, ..self.clone() }
    }

    /// Leases are told apart from lanes in what their failures mean to callers.
    pub(crate) fn for_leases(&self) -> Self {
        let client_name = client_name("lease");
        Self { kind: Kind::Lease, client_name, attempts: Arc::default(), ..self.clone() }
    }

    pub(crate) fn address(&self) -> &Address {
        self.topology.address()
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Why there is no connection, with the last failure as its cause.
    pub(crate) fn unreachable(&self) -> RedisError {
        let address = self.address().to_string();
        let last_error = self.attempts.last_error.lock().clone();
        match last_error {
            Some(source) if is_auth(&source) => RedisError::Auth { address, source },
            source => RedisError::Unreachable { address, source },
        }
    }

    /// Whether waiting longer cannot help because the server refuses the credentials.
    pub(crate) fn is_refused(&self) -> bool {
        self.attempts.last_error.lock().as_ref().is_some_and(is_auth)
    }

    /// Opens a connection whose pushed messages go to `on_push`.
    pub(crate) async fn open(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<RedisConnection, redis::RedisError> {
        let handshake = contained(self.handshake(on_push));
        let opened = tokio::time::timeout(self.connect_timeout, handshake).await;
        let opened = opened.unwrap_or_else(|_elapsed| {
            let detail = format!("not connected after {:?}", self.connect_timeout);
            Err((ErrorKind::Io, "connect timeout", detail).into())
        });
        match &opened {
            Ok(_) => *self.attempts.last_error.lock() = None,
            Err(error) => self.attempts.failed(error),
        }
        opened
    }

    async fn handshake(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<RedisConnection, redis::RedisError> {
        let closed = Arc::new(Signal::default());
        let closing = Arc::clone(&closed);
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            // Each command brings a deadline of its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(DRIVER_QUEUE)
            .set_push_sender(move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                if push.kind == PushKind::Disconnection {
                    closing.raise();
                }
                on_push(push);
                Ok(())
            });
        let client = self.topology.locate();
        let inner = client.get_multiplexed_async_connection_with_config(&options).await?;
        let mut connection = RedisConnection::new(inner, closed);
        if let Kind::Lane(status) = &self.kind {
            status.set(LaneStatus::Connect);
        }
        connection.set_name(&self.client_name).await?;
        match self.kind {
            Kind::Lane(_) | Kind::Subscription => connection.check_ready().await?,
            Kind::Lease => {}
        }
        Ok(connection)
    }

    /// Tries again and again: bb8 itself pauses for seconds without jitter, and whoever waits for it
    /// is not told. It ends after the time of one attempt, because bb8 has nobody who wants the
    /// connection after that.
    async fn open_patiently(&self) -> Result<RedisConnection, redis::RedisError> {
        let started = Instant::now();
        let mut failures = 0_u32;
        loop {
            let error = match self.open(drop).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            failures = failures.saturating_add(1);
            let pause = self.backoff.delay(failures);
            if is_auth(&error) || started.elapsed() + pause >= self.connect_timeout {
                return Err(error);
            }
            tracing::debug!(error = %error, failures, ?pause, "attempt to connect a lease failed");
            tokio::time::sleep(pause).await;
        }
    }
}

impl bb8_redis::bb8::ManageConnection for RedisManager {
    type Connection = RedisConnection;
    type Error = redis::RedisError;

    async fn connect(&self) -> Result<RedisConnection, redis::RedisError> {
        match self.kind {
            // The supervisor of the lane has pauses of its own.
            Kind::Lane(_) | Kind::Subscription => self.open(drop).await,
            Kind::Lease => self.open_patiently().await,
        }
    }

    async fn is_valid(&self, connection: &mut RedisConnection) -> Result<(), redis::RedisError> {
        connection.validate().await
    }

    fn has_broken(&self, connection: &mut RedisConnection) -> bool {
        connection.is_broken()
    }
}

/// A panic while connecting must not take bb8's place for the connection with it: the task that it
/// would end is the one that gives the place back.
async fn contained<T>(
    connecting: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, redis::RedisError> {
    match AssertUnwindSafe(connecting).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().copied();
            let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            let detail = text.unwrap_or("no message").to_owned();
            tracing::error!(panic = detail, "connecting panicked");
            Err((ErrorKind::Io, "connecting panicked", detail).into())
        }
    }
}

#[cfg(test)]
mod tests;
