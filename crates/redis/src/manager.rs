//! How a connection is opened, checked and told to be broken.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::redis::{self, AsyncConnectionConfig, ErrorKind, PushInfo, PushKind};
use forebay_config::RedisConfig;
use forebay_pooling::{Backoff, Breaker, BreakerConfig};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::RedisError;
use crate::address::{Address, Topology, client_name, is_auth};
use crate::connection::{RedisConnection, is_not_ready};
use crate::lane::{LaneStatus, StatusCell};
use crate::signal::Signal;

/// The first pause between two attempts to connect is random below this; the bound doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// A pause is never shorter, so that a breaker that has just closed makes nobody spin.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// The longest pause while somebody waits for the connection: it bounds how long an outage outlasts
/// its cause, also when the configured maximum is longer.
const WANTED_PAUSE_MAX: Duration = Duration::from_secs(1);
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
    pause_max: Duration,
    /// What is known about the server, by those who ask the same of it.
    breaker: Arc<Breaker<redis::RedisError>>,
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

impl RedisManager {
    /// The manager of subscriptions, from which the others are made.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        Ok(Self {
            topology: Topology::new(config)?,
            kind: Kind::Subscription,
            client_name: client_name("subscription"),
            connect_timeout: config.connect_timeout,
            pause_max: config.backoff_max.min(WANTED_PAUSE_MAX),
            breaker: new_breaker("redis", config.backoff_max.min(WANTED_PAUSE_MAX)),
        })
    }

    pub(crate) fn for_lane(&self, index: usize, status: Arc<StatusCell>) -> Self {
        let client_name = client_name(&format!("lane-{index}"));
        Self { kind: Kind::Lane(status), client_name, ..self.clone() }
    }

    /// Leases have a breaker of their own: a replica or a server that loads its data will do for
    /// them, and not for the others.
    pub(crate) fn for_leases(&self) -> Self {
        let client_name = client_name("lease");
        let breaker = new_breaker("redis leases", self.pause_max);
        Self { kind: Kind::Lease, client_name, breaker, ..self.clone() }
    }

    pub(crate) fn address(&self) -> &Address {
        self.topology.address()
    }

    pub(crate) fn breaker(&self) -> &Breaker<redis::RedisError> {
        &self.breaker
    }

    /// Why there is no connection, with the last failure as its cause.
    pub(crate) fn unreachable(&self) -> RedisError {
        let address = self.address().to_string();
        match self.breaker.cause() {
            Some(source) if is_auth(&source) => RedisError::Auth { address, source },
            source => RedisError::Unreachable { address, source },
        }
    }

    /// Whether waiting longer cannot help because the server refuses the credentials.
    pub(crate) fn is_refused(&self) -> bool {
        self.breaker.cause().as_ref().is_some_and(is_auth)
    }

    /// Class of the last failure; `None` when the last attempt succeeded.
    pub(crate) fn last_failure(&self) -> Option<&'static str> {
        self.breaker.cause().map(|cause| {
            if is_auth(&cause) {
                "auth"
            } else if is_not_ready(&cause) {
                "not_ready"
            } else {
                "unreachable"
            }
        })
    }

    /// Time until the next attempt may go out; `None` if one may now.
    pub(crate) fn retry_in(&self) -> Option<Duration> {
        let until = self.breaker.retry_at()?;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// How long to wait after an attempt that failed.
    pub(crate) fn pause(&self) -> Duration {
        self.retry_in().unwrap_or_default().max(PAUSE_MIN)
    }

    /// Opens a connection whose pushed messages go to `on_push`.
    pub(crate) async fn open(
        &self,
        on_push: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<RedisConnection, redis::RedisError> {
        let attempt = async {
            let handshake = contained(self.handshake(on_push));
            let opened = tokio::time::timeout(self.connect_timeout, handshake).await;
            opened.unwrap_or_else(|_elapsed| {
                let detail = format!("not connected after {:?}", self.connect_timeout);
                Err((ErrorKind::Io, "connect timeout", detail).into())
            })
        };
        self.breaker.attempt(attempt).await
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
        loop {
            let error = match self.open(drop).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let pause = self.pause();
            if is_auth(&error) || started.elapsed() + pause >= self.connect_timeout {
                return Err(error);
            }
            tracing::debug!(error = %error, ?pause, "attempt to connect a lease failed");
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

fn new_breaker(name: &'static str, pause_max: Duration) -> Arc<Breaker<redis::RedisError>> {
    Arc::new(Breaker::new(BreakerConfig {
        backoff: Backoff::new(PAUSE_FIRST, pause_max),
        is_permanent: is_auth,
        ..BreakerConfig::new(name)
    }))
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
