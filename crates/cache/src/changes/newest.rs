//! The newest version that was given out, asked for when a caller names one that may never have been.

use std::fmt::{self, Debug};

use forebay_postgres::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::outbox::Outbox;

/// Asks the store which version was given out last, once for all who want to know.
pub(crate) struct Newest {
    outbox: Outbox,
    /// When the last question was sent, and its answer.
    last: Mutex<Option<(Instant, i64)>>,
}

impl Newest {
    pub(crate) fn new(postgres: PgPool) -> Self {
        // It asks for no changes.
        Self { outbox: Outbox::new(postgres, 0), last: Mutex::new(None) }
    }

    /// The newest version at `since` or later. `None` if the store does not say.
    pub(crate) async fn since(&self, since: Instant) -> Option<i64> {
        // One question is under way at a time; whoever waited for it may not need his own.
        let mut last = self.last.lock().await;
        if let Some((asked_at, newest)) = *last
            && asked_at >= since
        {
            return Some(newest);
        }
        let asked_at = Instant::now();
        let newest = self.outbox.look().await.ok()?.newest;
        *last = Some((asked_at, newest));
        Some(newest)
    }
}

impl Debug for Newest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").finish_non_exhaustive()
    }
}
