//! Hearing of failures while one waits for a connection.

use tokio::sync::watch;

/// The failures that happen while one caller waits.
#[derive(Debug)]
pub struct Failures<E>(pub(super) watch::Receiver<Option<E>>);

impl<E: Clone> Failures<E> {
    /// The next failure; never, once the breaker is gone.
    pub async fn next(&mut self) -> E {
        loop {
            if self.0.changed().await.is_err() {
                return std::future::pending().await;
            }
            let cause = self.0.borrow_and_update().clone();
            if let Some(cause) = cause {
                return cause;
            }
        }
    }
}
