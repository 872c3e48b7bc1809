//! How a connection is opened, checked and told to be broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::redis::aio::MultiplexedConnection;
use bb8_redis::redis::io::tcp::TcpSettings;
use bb8_redis::redis::io::tcp::socket2::TcpKeepalive;
use bb8_redis::redis::{
    self, AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo,
    ProtocolVersion, PushInfo, PushKind, Value,
};
use forebay_config::RedisConfig;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::RedisError;

/// An unacknowledged segment older than this closes the socket (`TCP_USER_TIMEOUT`), so that a
/// peer that vanished without a word is noticed while data is in flight.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Where the server is, as spans and errors name it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    pub(crate) database: String,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Opens connections for the lanes, the leases and the subscriptions of one connection pool.
#[derive(Debug, Clone)]
pub(crate) struct RedisManager {
    client: Client,
    address: Address,
    client_name: String,
    connect_timeout: Duration,
    attempts: Arc<Attempts>,
    ready_check: bool,
}

/// The failed attempts to connect, for those who wait for one to succeed.
#[derive(Debug)]
pub(crate) struct Attempts {
    failed: watch::Sender<u64>,
    last_error: Mutex<Option<redis::RedisError>>,
}

impl Attempts {
    /// Failed attempts so far; the receiver wakes for each further one.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.failed.subscribe()
    }

    fn failed(&self, error: &redis::RedisError) {
        *self.last_error.lock() = Some(error.clone());
        self.failed.send_modify(|failed| *failed += 1);
    }
}

impl RedisManager {
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        let info = config.url.expose().into_connection_info().map_err(RedisError::Config)?;
        let address = address_of(&info);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(
                TcpKeepalive::new().with_time(config.keep_alive).with_interval(config.keep_alive),
            )
            .set_user_timeout(UNACKNOWLEDGED_MAX);
        // The newer protocol tells us when a connection ends, also when nothing is in flight.
        let protocol = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_tcp_settings(tcp).set_redis_settings(protocol);
        Ok(Self {
            client: Client::open(info).map_err(RedisError::Config)?,
            address,
            client_name: client_name(),
            connect_timeout: config.connect_timeout,
            attempts: Arc::new(Attempts {
                failed: watch::channel(0).0,
                last_error: Mutex::new(None),
            }),
            ready_check: true,
        })
    }

    /// The same without the ready check and with attempts of its own: leases are told apart from
    /// lanes in what their failures mean to callers.
    pub(crate) fn without_ready_check(&self) -> Self {
        Self {
            attempts: Arc::new(Attempts {
                failed: watch::channel(0).0,
                last_error: Mutex::new(None),
            }),
            ready_check: false,
            ..self.clone()
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Why there is no connection, with the last failure as its cause.
    pub(crate) fn unreachable(&self) -> RedisError {
        let address = self.address.to_string();
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
        let opened = tokio::time::timeout(self.connect_timeout, self.handshake(on_push)).await;
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
        let closed = Arc::new(Closed::default());
        let closing = Arc::clone(&closed);
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            // Each command brings a deadline of its own.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| -> Result<(), redis::aio::SendError> {
                if push.kind == PushKind::Disconnection {
                    closing.close();
                }
                on_push(push);
                Ok(())
            });
        let mut inner = self.client.get_multiplexed_async_connection_with_config(&options).await?;
        self.set_name(&mut inner).await?;
        if self.ready_check {
            check_ready(&mut inner).await?;
        }
        Ok(RedisConnection { inner, closed, poisoned: false })
    }

    async fn set_name(&self, inner: &mut MultiplexedConnection) -> Result<(), redis::RedisError> {
        let named = redis::cmd("CLIENT")
            .arg("SETNAME")
            .arg(&self.client_name)
            .query_async::<Value>(inner)
            .await;
        tolerate_missing_permission(named)
    }
}

impl bb8_redis::bb8::ManageConnection for RedisManager {
    type Connection = RedisConnection;
    type Error = redis::RedisError;

    async fn connect(&self) -> Result<RedisConnection, redis::RedisError> {
        self.open(drop).await
    }

    async fn is_valid(&self, connection: &mut RedisConnection) -> Result<(), redis::RedisError> {
        redis::cmd("PING").query_async::<Value>(&mut connection.inner).await.map(drop)
    }

    fn has_broken(&self, connection: &mut RedisConnection) -> bool {
        connection.poisoned || connection.closed.is_closed()
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct RedisConnection {
    pub(crate) inner: MultiplexedConnection,
    pub(crate) closed: Arc<Closed>,
    /// Set while a command is under way: dropped in this state, the connection is not used again.
    pub(crate) poisoned: bool,
}

/// Whether the driver reported the end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    flag: AtomicBool,
    notify: Notify,
}

impl Closed {
    fn close(&self) {
        self.flag.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Waits for the end of the connection. One task may wait.
    pub(crate) async fn closed(&self) {
        while !self.is_closed() {
            self.notify.notified().await;
        }
    }
}

/// A server that is loading its data or that is a replica would refuse what we are about to send.
async fn check_ready(inner: &mut MultiplexedConnection) -> Result<(), redis::RedisError> {
    let info = redis::cmd("INFO").arg("persistence").query_async::<Option<String>>(inner).await;
    let info = match info {
        Err(error) if error.code() == Some("NOPERM") => None,
        other => other?,
    };
    if info.is_some_and(|text| text.lines().any(|line| line.trim_end() == "loading:1")) {
        return Err((ErrorKind::Io, "the server is loading its data").into());
    }
    let role = redis::cmd("ROLE").query_async::<Value>(inner).await;
    match role {
        Err(error) if error.code() == Some("NOPERM") => Ok(()),
        Err(error) => Err(error),
        Ok(Value::Array(parts)) if is_replica(&parts) => {
            Err((ErrorKind::Io, "the server is a replica").into())
        }
        Ok(_) => Ok(()),
    }
}

fn is_replica(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(name)) if name.as_slice() == b"slave")
}

fn tolerate_missing_permission(
    answer: Result<Value, redis::RedisError>,
) -> Result<(), redis::RedisError> {
    match answer {
        Err(error) if error.code() == Some("NOPERM") => {
            tracing::debug!(error = %error, "a connection keeps its default name");
            Ok(())
        }
        other => other.map(drop),
    }
}

fn is_auth(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

fn address_of(info: &redis::ConnectionInfo) -> Address {
    let (host, port) = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), Some(*port))
        }
        ConnectionAddr::Unix(path) => (path.display().to_string(), None),
        other => (other.to_string(), None),
    };
    Address { host, port, database: info.redis_settings().db().to_string() }
}

/// The program's name, so that `CLIENT LIST` tells which process holds a connection.
fn client_name() -> String {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
    let mut name = String::from("forebay:");
    name.extend(stem.unwrap_or("process").chars().filter(char::is_ascii_graphic));
    name
}
