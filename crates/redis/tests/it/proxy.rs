//! A TCP proxy in the test: it may swallow what its connections carry, and change where new ones
//! lead to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::SeqCst};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A proxy on a free port of 127.0.0.1; it ends with its value.
pub(crate) struct Proxy {
    port: u16,
    target: Arc<AtomicU16>,
    /// Connections accepted before this one carry no questions any more, and stay open.
    questions_from: Arc<AtomicU64>,
    /// The same for answers.
    answers_from: Arc<AtomicU64>,
    accepted: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let target = Arc::new(AtomicU16::new(target));
        let [questions_from, answers_from, accepted] =
            std::array::from_fn(|_| Arc::new(AtomicU64::new(0)));
        let (to, count) = (Arc::clone(&target), Arc::clone(&accepted));
        let (questions, answers) = (Arc::clone(&questions_from), Arc::clone(&answers_from));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, SeqCst);
                // A server that is away refuses; dropping the client tells it so.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", to.load(SeqCst))).await {
                    client.set_nodelay(true).expect("option");
                    server.set_nodelay(true).expect("option");
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    tokio::spawn(carry(client_read, server_write, number, Arc::clone(&questions)));
                    tokio::spawn(carry(server_read, client_write, number, Arc::clone(&answers)));
                }
            }
        });
        Self { port, target, questions_from, answers_from, accepted, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where connections from now on lead to.
    pub(crate) fn lead_to(&self, port: u16) {
        self.target.store(port, SeqCst);
    }

    /// Connections that are open now carry nothing any more, in neither direction, and nobody is
    /// told: as when a router forgets them. New ones work.
    pub(crate) fn black_hole(&self) {
        self.questions_from.store(self.accepted.load(SeqCst), SeqCst);
        self.swallow_answers();
    }

    /// The server goes on hearing those who are connected now, and they hear nothing of it.
    pub(crate) fn swallow_answers(&self) {
        self.answers_from.store(self.accepted.load(SeqCst), SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
    carried_from: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        if number < carried_from.load(SeqCst) {
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
