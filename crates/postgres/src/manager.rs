//! What bb8 asks of us: open a connection, tell whether one is still good.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bb8_postgres::bb8::ManageConnection;
use forebay_pooling::PoolMetrics;
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::PgError;
use crate::connection::PgConnection;
use crate::connector::Connector;
use crate::outage::Outage;

/// A connection is replaced up to this share of its lifetime early, so that those opened together
/// do not go together.
const LIFETIME_JITTER: f64 = 0.1;

/// Opens connections for bb8. Clones share everything.
#[derive(Clone)]
pub(crate) struct Manager(Arc<Inner>);

struct Inner {
    connector: Connector,
    lifetime_max: Duration,
    outage: Outage,
    created: AtomicU64,
    is_draining: AtomicBool,
    metrics: PoolMetrics,
}

impl Manager {
    pub(crate) fn new(connector: Connector, lifetime_max: Duration, metrics: PoolMetrics) -> Self {
        Self(Arc::new(Inner {
            connector,
            lifetime_max,
            outage: Outage::new(),
            created: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
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

    /// From now on nothing is opened and everything that comes back is closed.
    pub(crate) fn drain(&self) {
        self.0.is_draining.store(true, Ordering::Release);
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining.load(Ordering::Acquire)
    }

    async fn open(&self) -> Result<PgConnection, PgError> {
        let started = Instant::now();
        // A panic would leave bb8 with a place that is neither taken nor free, for good.
        let opened = AssertUnwindSafe(self.0.connector.open()).catch_unwind().await;
        let opened = opened.unwrap_or_else(|_panic| {
            let error = std::io::Error::other("the attempt to connect panicked");
            Err(self.0.connector.unreachable(error))
        })?;
        self.0.created.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.created(started.elapsed());
        let share = 1.0 - LIFETIME_JITTER * rand::random::<f64>();
        let mode = self.0.connector.target().mode;
        Ok(PgConnection::new(opened, mode, self.0.lifetime_max.mul_f64(share)))
    }
}

impl ManageConnection for Manager {
    type Connection = PgConnection;
    type Error = PgError;

    async fn connect(&self) -> Result<PgConnection, PgError> {
        if self.is_draining() {
            return Err(PgError::Draining);
        }
        self.0.outage.attempt(self.open()).await
    }

    /// Never asked: we check on checkout ourselves, because bb8 would hand a
    /// connection out again whose check was cancelled half-way.
    async fn is_valid(&self, _connection: &mut PgConnection) -> Result<(), PgError> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut PgConnection) -> bool {
        let is_usable = connection.is_clean() && !connection.is_dead() && !connection.is_expired();
        !is_usable || self.is_draining()
    }
}
