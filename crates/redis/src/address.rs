//! Where the server is, as spans, errors and the driver name it.

use bb8_redis::redis::io::tcp::TcpSettings;
use bb8_redis::redis::io::tcp::socket2::TcpKeepalive;
use bb8_redis::redis::{
    self, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
};
use std::time::Duration;

use forebay_config::RedisConfig;

use crate::RedisError;

/// An unacknowledged segment older than this closes the socket (`TCP_USER_TIMEOUT`), so that a
/// peer that vanished without a word is noticed while data is in flight.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Keep-alive probes without an answer after which an idle socket closes.
const KEEP_ALIVE_PROBES: u32 = 3;

/// Where the server is, for people.
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

/// Which server a new connection goes to.
///
/// Every connection of every kind asks [`Topology::locate`] anew and goes through the ready check,
/// and nothing above the manager knows an address. Here is therefore the place for an answer of
/// Sentinel ("who is the master now?") or of a cluster ("who owns this slot?"). Keys are prepared
/// for a cluster as well: a prefix and a key are put together as they are, so a hash tag (`{...}`)
/// in a key is the server's to see, and keys that one script touches can share one.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    client: Client,
    address: Address,
}

impl Topology {
    /// The one server that the URL names. A host name is resolved anew for each connection.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        let info = config.url.expose().into_connection_info().map_err(RedisError::Config)?;
        let address = address_of(&info);
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(
                TcpKeepalive::new()
                    .with_time(config.keep_alive)
                    .with_interval(config.keep_alive)
                    .with_retries(KEEP_ALIVE_PROBES),
            )
            .set_user_timeout(UNACKNOWLEDGED_MAX);
        let settings = info
            .redis_settings()
            .clone()
            // The newer protocol tells us when a connection ends, also when nothing is in flight.
            .set_protocol(ProtocolVersion::RESP3)
            // CLIENT SETINFO; servers before 7.2 refuse it, which the driver tolerates.
            .set_lib_name("forebay", env!("CARGO_PKG_VERSION"));
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        Ok(Self { client: Client::open(info).map_err(RedisError::Config)?, address })
    }

    /// The server that the next connection goes to.
    pub(crate) fn locate(&self) -> &Client {
        &self.client
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

fn address_of(info: &ConnectionInfo) -> Address {
    let (host, port) = match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            (host.clone(), Some(*port))
        }
        ConnectionAddr::Unix(path) => (path.display().to_string(), None),
        other => (other.to_string(), None),
    };
    Address { host, port, database: info.redis_settings().db().to_string() }
}

/// The name by which `CLIENT LIST` shows a connection: `service/instance/kind`, where the service is
/// the program's name and the instance its process id.
pub(crate) fn client_name(kind: &str) -> String {
    let program = std::env::current_exe().ok();
    let stem = program.as_deref().and_then(|path| path.file_stem()).and_then(|stem| stem.to_str());
    // A name may hold printable characters only.
    let service: String =
        stem.unwrap_or("process").chars().filter(char::is_ascii_graphic).collect();
    format!("{service}/{}/{kind}", std::process::id())
}

/// Whether the server refuses the credentials, so that trying again cannot help.
pub(crate) fn is_auth(error: &redis::RedisError) -> bool {
    error.kind() == redis::ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}
