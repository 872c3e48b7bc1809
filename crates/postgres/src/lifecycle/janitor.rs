//! Cleans up after callers that went away in the middle of something.
//!
//! The connection keeps its place and its permit meanwhile, also when it is to
//! be closed in the end: the server is still at work for us, and letting the
//! next caller in would have more statements run than there are connections.

use std::sync::Arc;

use forebay_pooling::CloseReason;
use tokio::time::Instant;

use crate::lifecycle::lease::Held;
use crate::pool::Shared;

/// Cancels, rolls back and returns the connection, or closes it.
pub(crate) fn clean(mut held: Held) {
    let limbo = Limbo::enter(&held.shared);
    held.permit.disregard_hold();
    let runtime = held.shared.runtime().clone();
    runtime.spawn(async move {
        let connector = held.shared.manager().connector().clone();
        if !held.connection.clean(&connector).await {
            held.connection.poison(CloseReason::Poisoned);
            tracing::debug!("a postgres connection could not be cleaned and is closed");
        }
        held.give_back(Instant::now());
        drop(limbo);
    });
}

/// Counts a connection that is being cleaned, also when the runtime ends before that.
struct Limbo(Arc<Shared>);

impl Limbo {
    fn enter(shared: &Arc<Shared>) -> Self {
        shared.counters().enter_limbo();
        Self(Arc::clone(shared))
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        self.0.counters().leave_limbo();
    }
}
