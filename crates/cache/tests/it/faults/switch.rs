//! The address of Redis, behind which the server may be another one from one moment to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// An address on 127.0.0.1 that leads to a server; it ends with its value.
pub(super) struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    fate: watch::Sender<Fate>,
    task: AbortHandle,
}

/// What becomes of connections. Each counts up; a connection of an earlier count is hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fate {
    /// They end.
    cut: u64,
    /// They carry nothing any more, and nobody is told: as when a router forgets them.
    swallowed: u64,
}

impl Switch {
    pub(super) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let target = Arc::new(AtomicU16::new(target));
        let (fate, fates) = watch::channel(Fate::default());
        let to = Arc::clone(&target);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, to.load(SeqCst), fates.clone()));
            }
        });
        Self { port, target, fate, task: task.abort_handle() }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Another server has the address from now on. Connections to the old one end.
    pub(super) fn lead_to(&self, target: u16) {
        self.target.store(target, SeqCst);
        self.fate.send_modify(|fate| fate.cut += 1);
    }

    /// Connections that are open now stay open and carry nothing any more. New ones work.
    pub(super) fn swallow(&self) {
        self.fate.send_modify(|fate| fate.swallowed += 1);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(client: TcpStream, target: u16, mut fates: watch::Receiver<Fate>) {
    let born = *fates.borrow();
    // A server that is away refuses; dropping the client tells it so.
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let carried = fates.clone();
    tokio::select! {
        () = carry(from_client, to_server, born, carried.clone()) => {}
        () = carry(from_server, to_client, born, carried) => {}
        _ended = fates.wait_for(|fate| fate.cut != born.cut) => {}
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    born: Fate,
    fates: watch::Receiver<Fate>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A connection that is reset ends like one that is closed.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let is_swallowed = fates.borrow().swallowed != born.swallowed;
        match (read, is_swallowed) {
            // The one end is gone; the other must not learn of it.
            (0, true) => return std::future::pending().await,
            (0, false) => return,
            (_, true) => {}
            (_, false) if to.write_all(&buffer[..read]).await.is_err() => return,
            (_, false) => {}
        }
    }
}
