//! A TCP proxy that delays, cuts and swallows what its connections carry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// A proxy on a free port of 127.0.0.1; it ends with its value.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    task: AbortHandle,
}

#[derive(Default)]
struct State {
    /// Milliseconds that each piece is held up.
    delay_ms: AtomicU64,
    /// Milliseconds that one piece of an answer in four is held up.
    unevenness_ms: AtomicU64,
    answered: AtomicU64,
    accepted: AtomicU64,
    /// Connections before this one carry nothing any more, and stay open.
    carried_from: AtomicU64,
    cut: Notify,
}

impl Proxy {
    /// A proxy in front of a port of 127.0.0.1.
    pub(crate) async fn start(target: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let port = listener.local_addr().context("read the port")?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = shared.accepted.fetch_add(1, SeqCst);
                // A server that is away refuses; dropping the client tells it so.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await {
                    tokio::spawn(join(client, server, number, Arc::clone(&shared)));
                }
            }
        });
        Ok(Self { port, state, task: task.abort_handle() })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds up everything from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(millis(delay), SeqCst);
    }

    /// Holds up one answer in four from now on: answers on several connections overtake each other.
    pub(crate) fn uneven(&self, delay: Duration) {
        self.state.unevenness_ms.store(millis(delay), SeqCst);
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    /// Connections that are open now carry nothing any more, and nobody is told. New ones work.
    pub(crate) fn black_hole(&self) {
        self.state.carried_from.store(self.state.accepted.load(SeqCst), SeqCst);
    }
}

impl State {
    /// How long a piece is held up.
    fn delay_of(&self, is_answer: bool) -> Duration {
        let (delay, uneven) = (self.delay_ms.load(SeqCst), self.unevenness_ms.load(SeqCst));
        // Multiples of the golden ratio are spread evenly, and differently from any rhythm.
        let number = || self.answered.fetch_add(1, SeqCst).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let is_late = is_answer && uneven > 0 && number() < u64::MAX / 4;
        Duration::from_millis(delay + if is_late { uneven } else { 0 })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(client: TcpStream, server: TcpStream, number: u64, state: Arc<State>) {
    let cut = state.cut.notified();
    // Small packets are not to wait for each other; if that fails the run is slower.
    let _slower = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let carried = async {
        tokio::join!(
            carry(client_read, server_write, (number, false), &state),
            carry(server_read, client_write, (number, true), &state)
        )
    };
    tokio::select! {
        _ = carried => {}
        () = cut => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (number, is_answer): (u64, bool),
    state: &State,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let delay = state.delay_of(is_answer);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if number < state.carried_from.load(SeqCst) {
            if read == 0 {
                // The one end is gone; the other must not learn of it.
                return std::future::pending().await;
            }
            continue;
        }
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
