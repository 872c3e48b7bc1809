//! Whether L2 may be trusted: has Redis been up all the time since its entries were last known to
//! be right?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::L2State;

/// The state of the connection to the announcements. One task writes it; reads are atomic loads.
#[derive(Debug)]
pub(crate) struct Link {
    /// Even: not connected. Odd: connected. Each change of the connection counts up.
    session: AtomicU64,
    /// The session in which L2 was last found trustworthy.
    trusted_session: AtomicU64,
    /// The number of replaced Redis connections at that time.
    trusted_replaced: AtomicU64,
    /// Counts the connections to the announcements, failed first attempts included.
    connection: AtomicU64,
    /// How often it was found that entries of L2 may be wrong and nobody can say which.
    epochs_required: AtomicU64,
    /// How many of those were answered by a new epoch.
    epochs_made: AtomicU64,
    changed: Notify,
    epoch_made: Notify,
}

/// Leave to use L2, to be shown again when the answer is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trust {
    session: u64,
    replaced: u64,
}

impl Link {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            session: AtomicU64::new(0),
            trusted_session: AtomicU64::new(0),
            trusted_replaced: AtomicU64::new(0),
            connection: AtomicU64::new(0),
            epochs_required: AtomicU64::new(0),
            epochs_made: AtomicU64::new(0),
            changed: Notify::new(),
            epoch_made: Notify::new(),
        })
    }

    /// The session to note before the first read of a fill.
    pub(crate) fn session(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    pub(crate) fn is_connected(&self) -> bool {
        is_connected(self.session())
    }

    /// The announcements arrive from now on.
    pub(crate) fn connected(&self) {
        self.connection.fetch_add(1, Ordering::SeqCst);
        let next = if self.is_connected() { 2 } else { 1 };
        self.session.fetch_add(next, Ordering::SeqCst);
    }

    /// Announcements may be missed from now on. What L1 holds is no longer kept up to date, and
    /// L2 may have missed invalidations too.
    pub(crate) fn disconnected(&self) {
        if self.is_connected() {
            self.session.fetch_add(1, Ordering::SeqCst);
        } else {
            // Redis could not be reached: the next connection is not the first one.
            self.connection.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Nothing that was filled before may be trusted, although the connection is as it was.
    pub(crate) fn renew(&self) {
        self.session.fetch_add(2, Ordering::SeqCst);
    }

    /// The connection to the announcements gave a sign of life.
    pub(crate) fn lives(&self) {
        self.changed.notify_one();
    }

    /// The number of the connection to the announcements; one for the first, if it was made at the
    /// first attempt.
    pub(crate) fn connection(&self) -> u64 {
        self.connection.load(Ordering::SeqCst)
    }

    /// Leave to use L2, if Redis has been up since L2 was last found trustworthy. `replaced` is
    /// the number of Redis connections replaced so far.
    pub(crate) fn trust(&self, replaced: u64) -> Option<Trust> {
        let session = self.session();
        let trusted = is_connected(session)
            && self.trusted_session.load(Ordering::SeqCst) == session
            && self.trusted_replaced.load(Ordering::SeqCst) == replaced
            && self.epoch_required().is_none();
        trusted.then_some(Trust { session, replaced })
    }

    /// L2 was found trustworthy in this session, with this number of replaced connections.
    pub(crate) fn grant(&self, session: u64, replaced: u64) {
        self.trusted_replaced.store(replaced, Ordering::SeqCst);
        self.trusted_session.store(session, Ordering::SeqCst);
    }

    /// Entries of L2 may be wrong: use none of them before a new epoch is in force.
    pub(crate) fn require_epoch(&self) {
        self.epochs_required.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// The number of the newest requirement of an epoch, if it is still open.
    pub(crate) fn epoch_required(&self) -> Option<u64> {
        let required = self.epochs_required.load(Ordering::SeqCst);
        (required != self.epochs_made.load(Ordering::SeqCst)).then_some(required)
    }

    /// An epoch is in force that was made after requirement number `required`.
    pub(crate) fn epoch_made(&self, required: u64) {
        self.epochs_made.store(required, Ordering::SeqCst);
        self.epoch_made.notify_waiters();
    }

    /// Waits until no epoch is required any more.
    pub(crate) async fn epochs_settled(&self) {
        loop {
            let made = self.epoch_made.notified();
            tokio::pin!(made);
            // Registered before the check, or an epoch between the two would be missed.
            made.as_mut().enable();
            if self.epoch_required().is_none() {
                return;
            }
            made.await;
        }
    }

    /// Whether L2 is used, and why not, for an operator.
    pub(crate) fn state(&self, replaced: u64) -> L2State {
        if self.trust(replaced).is_some() {
            L2State::Trusted
        } else if !self.is_connected() {
            L2State::Unconnected
        } else if self.epoch_required().is_some() {
            L2State::Renewing
        } else {
            L2State::Unchecked
        }
    }

    /// Asks for L2 to be checked again, for example because its epoch is gone.
    pub(crate) fn check_l2(&self) {
        self.trusted_session.store(0, Ordering::SeqCst);
        self.changed.notify_one();
    }

    /// Waits for a sign of life or for a need to check L2.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

fn is_connected(session: u64) -> bool {
    session % 2 == 1
}

#[cfg(test)]
mod tests;
