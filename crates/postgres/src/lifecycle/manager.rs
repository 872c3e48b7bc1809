//! What bb8 asks of us: open a connection, tell whether one is still good.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bb8_postgres::bb8::ManageConnection;
use forebay_pooling::{CloseCounter, CloseReason, PoolMetrics};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::PgError;
use crate::lifecycle::connector::Connector;
use crate::lifecycle::outage::Outage;
use crate::lifecycle::sizing::Sizing;
use crate::wire::connection::PgConnection;

/// Opens connections for bb8. Clones share everything.
#[derive(Clone)]
pub(crate) struct Manager(Arc<Inner>);

struct Inner {
    connector: Connector,
    lifetime_max: Duration,
    outage: Outage,
    sizing: Sizing,
    opening: AtomicUsize,
    created: AtomicU64,
    closed: CloseCounter,
    /// As `draining`, for those who look at every call.
    is_draining: AtomicBool,
    draining: watch::Sender<bool>,
    metrics: PoolMetrics,
}

impl Manager {
    pub(crate) fn new(
        name: &'static str,
        connector: Connector,
        lifetime_max: Duration,
        sizing: Sizing,
        metrics: PoolMetrics,
    ) -> Self {
        Self(Arc::new(Inner {
            connector,
            lifetime_max,
            outage: Outage::new(name),
            sizing,
            opening: AtomicUsize::new(0),
            created: AtomicU64::new(0),
            closed: CloseCounter::default(),
            is_draining: AtomicBool::new(false),
            draining: watch::Sender::new(false),
            metrics,
        }))
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.0.connector
    }

    pub(crate) fn outage(&self) -> &Outage {
        &self.0.outage
    }

    /// Connections opened so far.
    pub(crate) fn created(&self) -> u64 {
        self.0.created.load(Ordering::Relaxed)
    }

    /// Connections closed so far.
    pub(crate) fn closed(&self) -> &CloseCounter {
        &self.0.closed
    }

    /// From now on nothing is opened and everything that comes back is closed.
    pub(crate) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Release);
        self.0.draining.send_replace(true);
    }

    /// Whether [`Manager::drain`] was called.
    pub(crate) fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    /// Hears when [`Manager::drain`] is called.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.0.draining.subscribe()
    }

    /// Opens a connection for whoever calls, under the same rules as one that bb8 asks for.
    pub(crate) async fn open_one(&self) -> Result<Box<PgConnection>, PgError> {
        if self.is_draining() {
            return Err(PgError::Draining);
        }
        self.0.outage.attempt(self.count_opening()).await
    }

    /// Why a connection that comes back must be closed; `None` if the next caller can use it.
    pub(crate) fn reason_to_close(&self, connection: &PgConnection) -> Option<CloseReason> {
        if self.is_draining() {
            Some(CloseReason::Draining)
        } else if connection.generation() != self.0.connector.generation() {
            Some(CloseReason::Role)
        } else {
            connection.reason_to_close()
        }
    }

    /// The size of the connection pool.
    pub(crate) fn sizing(&self) -> &Sizing {
        &self.0.sizing
    }

    async fn count_opening(&self) -> Result<Box<PgConnection>, PgError> {
        let opening = Opening::new(&self.0.opening);
        let outcome = self.open().await;
        drop(opening);
        if outcome.as_ref().is_err_and(is_full) {
            // Those still under way may be granted; if not, they say so themselves.
            let others = self.0.opening.load(Ordering::Relaxed);
            self.0.sizing.refused(self.0.connector.live().count() + others);
        }
        outcome
    }

    async fn open(&self) -> Result<Box<PgConnection>, PgError> {
        let started = Instant::now();
        // A panic would leave bb8 with a place that is neither taken nor free, for good.
        let opened = AssertUnwindSafe(self.0.connector.open()).catch_unwind().await;
        let opened = opened.unwrap_or_else(|_panic| {
            let error = std::io::Error::other("the attempt to connect panicked");
            Err(self.0.connector.unreachable(error))
        })?;
        self.0.created.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.created(started.elapsed());
        let mode = self.0.connector.target().mode;
        Ok(Box::new(PgConnection::new(opened, mode, self.0.lifetime_max)))
    }
}

impl ManageConnection for Manager {
    /// On the heap, because bb8 moves it at every turn.
    type Connection = Box<PgConnection>;
    type Error = PgError;

    async fn connect(&self) -> Result<Box<PgConnection>, PgError> {
        self.open_one().await
    }

    /// Never asked: we check on checkout ourselves, because bb8 would hand a
    /// connection out again whose check was cancelled half-way.
    async fn is_valid(&self, _connection: &mut Box<PgConnection>) -> Result<(), PgError> {
        Ok(())
    }

    /// Asked once for every connection that comes back; `true` closes it.
    fn has_broken(&self, connection: &mut Box<PgConnection>) -> bool {
        let reason = self.reason_to_close(connection);
        if let Some(reason) = reason {
            self.0.closed.add(reason);
        }
        reason.is_some()
    }
}

/// Whether the server, or the pooler in front of it, lets in no more of us.
fn is_full(error: &PgError) -> bool {
    matches!(
        error,
        PgError::ServerSlots { .. }
            | PgError::Pooler { code: "max_client_conn" | "EMAXCONN" | "EMAXCONNSESSION", .. }
    )
}

/// Counts an attempt for as long as it is under way, also when its future is dropped.
struct Opening<'a>(&'a AtomicUsize);

impl<'a> Opening<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
