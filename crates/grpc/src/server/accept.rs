//! Connections: accepted, served, drained, and closed when a drain takes too long.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Bound;
use super::call::Core;
use super::observe::Peer;
use super::ration::{Ration, Rationed};

/// Connections at once; more wait in the backlog of the system.
const CONNECTIONS_MAX: usize = 10_000;
/// Calls at once on one connection; clients queue the others themselves.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Calls that one connection may have cancelled before we looked at them. One more ends the
/// connection, as a flood of them would (CVE-2023-44487). A client may cancel all of its calls at
/// once, so as many as it may have; the library's own 20 cut off callers with short deadlines.
/// More than that would have to come in one [`Ration`], which they do not fit into.
const RESETS_PENDING_MAX: usize = 1024;
/// What every HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A new connection must have sent the whole [`PREFACE`] within this time: the signs of
/// life below are asked for only after it, so part of it must not keep a connection.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is asked for a sign of life this often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection that gives no sign of life for this long is closed.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept, such as when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then drains.
pub(super) async fn run(server: Bound, shutdown: impl Future<Output = ()> + Send) {
    let Bound { config, name, health, listener, local_addr, core } = server;
    tracing::info!(server = name, address = %local_addr, "grpc server listens");
    let mut connections = Connections { core: Arc::clone(&core), tasks: JoinSet::new() };
    connections.accept_until(&listener, pin!(shutdown)).await;

    health.drain().await;
    tracing::info!(server = name, lame_duck = ?config.lame_duck, "grpc server drains");
    // Still serving: whoever balances load must see NOT_SERVING before we refuse anybody.
    let lame_duck = pin!(tokio::time::sleep(config.lame_duck));
    connections.accept_until(&listener, lame_duck).await;

    drop(listener);
    core.close();
    let closed_by_force = connections.drain(config.drain_timeout).await;
    if closed_by_force > 0 {
        tracing::warn!(
            server = name,
            connections = closed_by_force,
            drain_timeout = ?config.drain_timeout,
            "connections closed by force"
        );
    }
    tracing::info!(server = name, "grpc server stopped");
}

struct Connections {
    core: Arc<Core>,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Takes connections until `end`.
    async fn accept_until(
        &mut self,
        listener: &TcpListener,
        mut end: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) {
        loop {
            tokio::select! {
                biased;
                () = end.as_mut() => return,
                Some(ended) = self.tasks.join_next() => report(ended),
                accepted = listener.accept(), if self.tasks.len() < CONNECTIONS_MAX => {
                    match accepted {
                        Ok((stream, address)) => self.start(stream, address),
                        Err(error) => pause(&error).await,
                    }
                }
            }
        }
    }

    fn start(&mut self, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%address, error = cause(&error), "connection is gone");
            return;
        }
        self.tasks.spawn(connection(Arc::clone(&self.core), stream, address));
    }

    /// Waits for the connections to end; the number of those that had to be closed.
    async fn drain(mut self, timeout: Duration) -> usize {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                report(ended);
            }
        };
        match tokio::time::timeout(timeout, all).await {
            Ok(()) => 0,
            Err(_elapsed) => {
                let left = self.tasks.len();
                self.tasks.shutdown().await;
                left
            }
        }
    }
}

/// Serves one connection until its client leaves or the server closes.
async fn connection(core: Arc<Core>, mut stream: TcpStream, address: SocketAddr) {
    let mut closed = pin!(core.closed());
    tokio::select! {
        // Nothing was asked yet, so nothing is owed.
        () = closed.as_mut() => return,
        spoken = tokio::time::timeout(PREFACE_TIMEOUT, speaks_http2(&mut stream)) => {
            if !spoken.unwrap_or(false) {
                tracing::debug!(%address, "connection did not begin with HTTP/2");
                return;
            }
        }
    }
    // hyper wants to read the preface itself.
    let (reader, writer) = stream.into_split();
    let ration = Ration::default();
    let reader = Rationed::new(PREFACE.chain(reader), ration.clone());
    let stream = tokio::io::join(reader, writer);
    let peer = Arc::new(Peer::new(address));
    let service = service_fn(move |request| {
        let served = Arc::clone(&core).serve(Arc::clone(&peer), request);
        served.map(Ok::<_, Infallible>)
    });
    let mut served = pin!(protocol().serve_connection(TokioIo::new(stream), service));
    let mut is_closing = false;
    let ended = poll_fn(|cx| {
        if !is_closing && closed.as_mut().poll(cx).is_ready() {
            is_closing = true;
            // GOAWAY: the client starts no new call here; those in flight go on.
            served.as_mut().graceful_shutdown();
        }
        ration.refill();
        served.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        // Clients leave in all manners; none of them is our failure.
        tracing::debug!(%address, error = cause(&error), "connection broke");
    }
}

/// Reads the preface; `false` when the client left or sent something else.
async fn speaks_http2(stream: &mut TcpStream) -> bool {
    let mut said = [0; PREFACE.len()];
    let mut length = 0;
    while length < said.len() {
        match stream.read(&mut said[length..]).await {
            Ok(read @ 1..) => length += read,
            Ok(0) | Err(_) => return false,
        }
        if !PREFACE.starts_with(&said[..length]) {
            return false;
        }
    }
    true
}

fn protocol() -> http2::Builder<TokioExecutor> {
    let mut protocol = http2::Builder::new(TokioExecutor::new());
    protocol
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .auto_date_header(false);
    protocol
}

async fn pause(error: &io::Error) {
    tracing::warn!(error = cause(error), "accept failed");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// A connection task only ends in an error when it panicked, which is a defect of ours.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = cause(&error), "connection task failed");
    }
}

/// An error as a log field that keeps its causes.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    error
}
