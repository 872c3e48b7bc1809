//! Ctrl-C, a closed terminal and a polite kill, counted: the first asks to stop, the second hurries.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often this process was asked to stop.
#[derive(Debug, Clone)]
pub(crate) struct Interrupts {
    count: watch::Receiver<u32>,
}

impl Interrupts {
    /// Counts from now on; the signals no longer end the process by themselves.
    ///
    /// # Errors
    ///
    /// When the handlers cannot be installed.
    pub(crate) fn install() -> std::io::Result<Self> {
        let (sender, count) = watch::channel(0);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    sender.send_modify(|count| *count += 1);
                }
            });
        }
        Ok(Self { count })
    }

    /// Waits until the process was asked to stop `times` times.
    pub(crate) async fn at_least(&mut self, times: u32) {
        // An error means that no signal can come any more, so there is nothing to wait for.
        if self.count.wait_for(|count| *count >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How often so far.
    pub(crate) fn count(&self) -> u32 {
        *self.count.borrow()
    }
}
