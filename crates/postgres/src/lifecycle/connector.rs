//! Opens connections and cancels statements.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_config::PostgresConfig;
use parking_lot::RwLock;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres::{CancelToken, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::PgError;
use crate::lifecycle::budget::Limits;
use crate::lifecycle::live::{self, Live};
use crate::wire::dsn::{Place, Target};
use crate::wire::last_words::LastWords;
use crate::wire::stream::{Peer, Socket, UntilClosed};
use crate::wire::tls;

/// How often the server looks whether the client of a running statement is still there.
/// It ends statements of a process that was killed, which can cancel nothing itself.
const CLIENT_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Opens connections to one database.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Inner>);

struct Inner {
    target: Target,
    tls: Option<MakeRustlsConnect>,
    connect_timeout: Duration,
    limits: Limits,
    live: Live,
    lead: RwLock<Lead>,
    /// As `lead.generation`, for those who look at every return.
    generation: AtomicU64,
}

/// Where connections are opened now.
struct Lead {
    places: Arc<[Place]>,
    generation: u64,
}

/// A connection just opened.
pub(crate) struct Opened {
    /// The half that takes statements.
    pub(crate) client: Client,
    /// The task that moves the bytes; it ends when the connection does.
    pub(crate) driver: JoinHandle<()>,
    /// Why the connection has ended, if the server said so unasked.
    pub(crate) last_words: LastWords,
    /// What [`Connector::cancel`] needs.
    pub(crate) canceller: Canceller,
    /// [`Connector::generation`] when [`Connector::open`] was asked for it; else zero.
    pub(crate) generation: u64,
}

/// Names one backend to [`Connector::cancel`].
#[derive(Clone)]
pub(crate) struct Canceller {
    token: CancelToken,
    peer: Peer,
    host: String,
}

impl Connector {
    /// A connector for the database in `config`. Does no I/O, except to read trusted roots.
    pub(crate) fn new(config: &PostgresConfig, application_name: &str) -> Result<Self, PgError> {
        let mut target = Target::parse(config.url.expose(), config.mode)?;
        let tls = tls::connector(&target.encryption)?;
        if target.config.get_application_name().is_none() {
            target.config.application_name(application_name);
        }
        if target.mode.keeps_session() {
            // A transaction pooler refuses or ignores start-up options: there, set them on the role.
            let options = startup_options(target.config.get_options(), config);
            target.config.options(options);
        }
        // The url may ask for less time, as it does of other drivers.
        let asked = target.config.get_connect_timeout().copied();
        let connect_timeout =
            asked.map_or(config.connect_timeout, |t| t.min(config.connect_timeout));
        let limits = Limits::new(config, target.mode);
        let lead = Lead { places: target.places.as_slice().into(), generation: 0 };
        let (live, lead) = (Live::new(), RwLock::new(lead));
        let generation = AtomicU64::new(0);
        Ok(Self(Arc::new(Inner { target, tls, connect_timeout, limits, live, lead, generation })))
    }

    /// What there is to share with other processes.
    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Where and how we connect.
    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }

    /// Where connections are opened now: where the url leads, until [`Connector::lead_to`].
    pub(crate) fn places(&self) -> Arc<[Place]> {
        Arc::clone(&self.0.lead.read().places)
    }

    /// Opens connections elsewhere from now on: the same database, user and password on another
    /// server.
    pub(crate) fn lead_to(&self, places: Arc<[Place]>) {
        let mut lead = self.0.lead.write();
        lead.places = places;
        lead.generation += 1;
        self.0.generation.store(lead.generation, Ordering::Release);
    }

    /// Grows with each [`Connector::lead_to`]. A connection of an earlier one leads elsewhere.
    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// The connections opened here whose sockets are still open.
    pub(crate) fn live(&self) -> &Live {
        &self.0.live
    }

    /// Opens a connection within the connect timeout, encryption and authentication included.
    pub(crate) async fn open(&self) -> Result<Opened, PgError> {
        let limit = self.0.connect_timeout;
        // Both at once, or a connection to the server before might pass for one to this one.
        let (places, generation) = {
            let lead = self.0.lead.read();
            (Arc::clone(&lead.places), lead.generation)
        };
        let opening = async {
            let opened = self.open_at(&places).await?;
            Ok(Opened { generation, ..opened })
        };
        timeout(limit, opening).await.unwrap_or_else(|_elapsed| {
            let message = format!("no connection within {} ms", limit.as_millis());
            Err(self.unreachable(io::Error::new(io::ErrorKind::TimedOut, message)))
        })
    }

    /// The error for a server that cannot be reached.
    pub(crate) fn unreachable(&self, error: io::Error) -> PgError {
        let places: Vec<_> = self.places().iter().map(Place::to_string).collect();
        PgError::Unreachable { address: places.join(","), source: Arc::new(error) }
    }

    /// Cancels whatever the backend is doing and waits until the server has passed the signal on.
    pub(crate) async fn cancel(&self, canceller: &Canceller) -> io::Result<()> {
        let stream = UntilClosed(canceller.peer.open().await?);
        let cancelled = match &self.0.tls {
            None => canceller.token.cancel_query_raw(stream, NoTls).await,
            Some(tls) => {
                let tls = make_tls::<UntilClosed>(tls, &canceller.host);
                canceller.token.cancel_query_raw(stream, tls).await
            }
        };
        cancelled.map_err(io::Error::other)
    }

    /// Opens a connection to the first of `places` that lets us in. Takes as long as they do.
    pub(crate) async fn open_at(&self, places: &[Place]) -> Result<Opened, PgError> {
        let mut failure = self.unreachable(io::Error::from(io::ErrorKind::AddrNotAvailable));
        for place in places {
            match self.try_place(place).await {
                Ok(opened) => return Ok(opened),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn try_place(&self, place: &Place) -> Result<Opened, PgError> {
        let address = place.to_string();
        let unreachable = |error: io::Error| PgError::Unreachable {
            address: address.clone(),
            source: Arc::new(error),
        };
        let (socket, peer) = dial(place).await.map_err(unreachable)?;
        let host = match place {
            Place::Tcp { host, .. } => host.clone(),
            Place::Unix(_) => String::new(),
        };
        let config = &self.0.target.config;
        let entry = self.0.live.enter();
        let id = entry.id();
        let started = match &self.0.tls {
            None => config.connect_raw(socket, NoTls).await.map(|opened| spawn(opened, entry)),
            Some(tls) => config
                .connect_raw(socket, make_tls::<Socket>(tls, &host))
                .await
                .map(|opened| spawn(opened, entry)),
        };
        let (client, driver, last_words) =
            started.map_err(|error| PgError::from_connect(&address, error))?;
        let canceller = Canceller { token: client.cancel_token(), peer, host };
        let handle = live::Handle { canceller: canceller.clone(), driver: driver.abort_handle() };
        self.0.live.add(id, handle);
        Ok(Opened { client, driver, last_words, canceller, generation: 0 })
    }
}

/// Connects to the first address of `place` that answers.
async fn dial(place: &Place) -> io::Result<(Socket, Peer)> {
    let peers: Vec<Peer> = match place {
        Place::Unix(path) => vec![Peer::Unix(path.clone())],
        Place::Tcp { host, port } => {
            tokio::net::lookup_host((host.as_str(), *port)).await?.map(Peer::Tcp).collect()
        }
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for peer in peers {
        match peer.open().await {
            Ok(socket) => return Ok((socket, peer)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Gives the connection a task of its own, which ends with it.
fn spawn<T>(
    (client, connection): (Client, Connection<Socket, T>),
    entry: live::Entry,
) -> (Client, JoinHandle<()>, LastWords)
where
    T: TlsStream + Send + Unpin + 'static,
{
    let last_words = LastWords::default();
    let noted = last_words.clone();
    let driver = tokio::spawn(async move {
        // Goes with the socket, also when the task is aborted.
        let _entry = entry;
        // Here until the end is noted: whoever finds it closed is to find out why as well.
        let mut connection = connection;
        // Every statement in flight gets the error too, and is where it is handled.
        if let Err(end) = (&mut connection).await {
            let error: &dyn std::error::Error = &end;
            tracing::debug!(error, "postgres connection ended");
            noted.note(end);
        }
    });
    (client, driver, last_words)
}

fn make_tls<S>(
    tls: &MakeRustlsConnect,
    host: &str,
) -> <MakeRustlsConnect as MakeTlsConnect<S>>::TlsConnect
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let made = MakeTlsConnect::<S>::make_tls_connect(&mut tls.clone(), host);
    match made {
        Ok(connect) => connect,
        Err(never) => match never {},
    }
}

/// Options of the url, ours behind them: the last one wins, and the settings are where ours come from.
fn startup_options(own: Option<&str>, config: &PostgresConfig) -> String {
    let settings = [
        ("statement_timeout", config.statement_timeout),
        ("idle_in_transaction_session_timeout", config.idle_in_transaction_timeout),
        ("lock_timeout", config.lock_timeout),
        ("client_connection_check_interval", CLIENT_CHECK_INTERVAL),
    ];
    let mut options = own.unwrap_or_default().to_owned();
    for (name, value) in settings {
        options.push_str(&format!(" -c {name}={}", value.as_millis()));
    }
    options.trim_start().to_owned()
}
