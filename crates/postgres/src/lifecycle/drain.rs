//! The end of a connection pool.

use std::time::Duration;

use forebay_pooling::Deadline;
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::lifecycle::live::Handle;
use crate::pool::Shared;

/// How long the server may take to pass on that a statement is cancelled.
const CUT_OFF_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the tasks of closed connections may take to end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Shared {
    /// Turns everybody away, waits until `deadline` for those who hold a connection, then cuts
    /// them off. Returns how many.
    pub(crate) async fn drain(&self, deadline: Deadline) -> usize {
        self.manager().drain();
        self.gate().close();
        let mut cut_off = 0;
        if !self.gate().idle(deadline).await {
            cut_off = self.gate().stats().held;
            join_all(self.live().handles().into_iter().map(|handle| self.cut_off(handle))).await;
        }
        self.shelf().look_through(self.bb8(), Vec::clear);
        if timeout(CLOSE_TIMEOUT, self.live().all_closed()).await.is_err() {
            tracing::warn!(open = self.live().count(), "postgres connections are still open");
        }
        cut_off
    }

    /// Ends what the backend does, so that it does not go on for nobody, and closes the socket. Its
    /// holder is told that the connection is lost.
    async fn cut_off(&self, handle: Handle) {
        let cancel = self.manager().connector().cancel(&handle.canceller);
        match timeout(CUT_OFF_TIMEOUT, cancel).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error: &dyn std::error::Error = &error;
                tracing::debug!(error, "a postgres statement could not be cancelled");
            }
            Err(_elapsed) => tracing::debug!("cancelling a postgres statement took too long"),
        }
        handle.driver.abort();
    }
}
