//! An address that leads to one server or another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A port that is passed on to another one. It closes with its value.
pub(super) struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
    /// Its receivers end the connections to the target before.
    changes: watch::Sender<u32>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let target = Arc::new(AtomicU16::new(target));
        let changes = watch::Sender::new(0);
        let task = tokio::spawn({
            let (target, changes) = (Arc::clone(&target), changes.clone());
            async move {
                while let Ok((inside, _)) = listener.accept().await {
                    let mut changed = changes.subscribe();
                    let target = target.load(Ordering::SeqCst);
                    tokio::spawn(async move {
                        tokio::select! {
                            () = pass(inside, target) => {}
                            // The sender lives as long as the relay; both endings are the same.
                            _ = changed.changed() => {}
                        }
                    });
                }
            }
        });
        Self { port, target, changes, task }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Leads to `target` from now on, and ends what leads elsewhere.
    pub(super) fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
        self.changes.send_modify(|number| *number += 1);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut inside: TcpStream, target: u16) {
    if let Ok(mut outside) = TcpStream::connect(("127.0.0.1", target)).await {
        // Either side may go away; the other one is closed then.
        let _ended = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
    }
}
