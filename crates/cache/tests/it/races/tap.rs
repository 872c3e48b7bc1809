//! A TCP proxy that can hold up what clients send, or what they are answered.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy on a free port of 127.0.0.1; it ends with its value.
pub(crate) struct Tap {
    port: u16,
    closed: watch::Sender<bool>,
    muted: watch::Sender<bool>,
    task: AbortHandle,
}

impl Tap {
    /// A proxy in front of the server of a database URL, and the URL through it.
    pub(crate) async fn of(url: &str) -> (Self, String) {
        let (base, database) = url.rsplit_once('/').expect("a database");
        let (user, server) = base.rsplit_once('@').expect("a user");
        let tap = Self::start(server.to_owned()).await;
        let through = format!("{user}@127.0.0.1:{}/{database}", tap.port);
        (tap, through)
    }

    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let (closed, is_closed) = watch::channel(false);
        let (muted, is_muted) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.expect("the server");
                tokio::spawn(join(client, server, is_closed.clone(), is_muted.clone()));
            }
        });
        Self { port, closed, muted, task: task.abort_handle() }
    }

    /// From now on nothing that a client sends arrives.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// From now on no client hears an answer.
    pub(crate) fn mute(&self) {
        self.muted.send_replace(true);
    }

    /// What was held up arrives, and all else.
    pub(crate) fn open(&self) {
        self.closed.send_replace(false);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn join(
    client: TcpStream,
    server: TcpStream,
    is_closed: watch::Receiver<bool>,
    is_muted: watch::Receiver<bool>,
) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Either end being gone ends both.
    tokio::select! {
        () = carry(from_client, to_server, is_closed) => {}
        () = carry(from_server, to_client, is_muted) => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut holds: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        // An error means that nobody is left who could let it pass.
        let is_over = holds.wait_for(|holds| !holds).await.is_err();
        if is_over || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
