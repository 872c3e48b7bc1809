//! Whether something that waits in a queue has been sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::PgError;

/// Set once, when it is sent. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Departed(Arc<AtomicBool>);

impl Departed {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// What to tell a caller whose time ran out: whether the server is slow, or we never got to it.
    pub(crate) fn too_late(&self, gave_up: impl FnOnce() -> PgError) -> PgError {
        if self.0.load(Ordering::Relaxed) {
            PgError::StatementTimeout { source: None }
        } else {
            gave_up()
        }
    }
}
