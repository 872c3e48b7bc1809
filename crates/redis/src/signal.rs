//! Something that happens once and that several tasks may wait for.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Raised once, for ever.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    notify: Notify,
}

impl Signal {
    pub(crate) fn raise(&self) {
        self.raised.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Waits until it is raised.
    pub(crate) async fn wait(&self) {
        let raised = self.notify.notified();
        tokio::pin!(raised);
        // Registered before the check, or a signal between the two would be missed.
        raised.as_mut().enable();
        if !self.is_raised() {
            raised.await;
        }
    }
}
