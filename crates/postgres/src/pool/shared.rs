//! What the clones of a connection pool, its leases and its janitor share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bb8_postgres::bb8::{self, QueueStrategy};
use forebay_config::PostgresConfig;
use forebay_pooling::{CloseReason, Deadline, GateConfig, PoolMetrics, PoolStats, RetryBudget};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::PgError;
use crate::lifecycle::connector::Connector;
use crate::lifecycle::line::Line;
use crate::lifecycle::live::Live;
use crate::lifecycle::manager::Manager;
use crate::lifecycle::outlook::Herald;
use crate::lifecycle::shelf::{PgGate, Shelf, Taken};
use crate::lifecycle::sizing::Sizing;
use crate::lifecycle::visitor::Visitor;
use crate::observe::Observer;
use crate::reads::pipeline::Pipeline;
use crate::reads::router::Router;

/// bb8's own timeout. Ours is always nearer, so bb8 must never be the one to give up.
const BB8_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// From this many connections on, one is kept for what keeps the process observable. Where there
/// are fewer, it is missed more by those who wait for an answer.
const RESERVE_FROM: u32 = 8;

/// See the module.
pub(crate) struct Shared {
    name: &'static str,
    pub(super) bb8: bb8::Pool<Manager>,
    gate: PgGate,
    line: Line<Taken>,
    shelf: Shelf,
    manager: Manager,
    observer: Observer,
    metrics: PoolMetrics,
    counters: Counters,
    pipeline: Pipeline,
    retries: RetryBudget,
    runtime: Handle,
    acquire_timeout: Duration,
    statement_timeout: Duration,
    outage_grace: Duration,
    visitor: OnceLock<Visitor>,
    herald: OnceLock<Herald>,
    router: OnceLock<Router>,
}

impl Shared {
    pub(crate) fn open(
        config: &PostgresConfig,
        application_name: &str,
        name: &'static str,
    ) -> Result<Arc<Self>, PgError> {
        let connector = Connector::new(config, application_name)?;
        // bb8 panics on zero.
        let connections_max = connector.limits().connections_max(config.connections_max).max(1);
        let observer = Observer::new(connector.target());
        let cell: Arc<OnceLock<Weak<Self>>> = Arc::default();
        let metrics = PoolMetrics::new(name, {
            let cell = Arc::clone(&cell);
            move || cell.get().and_then(Weak::upgrade).map(|shared| shared.stats())
        });
        let gate = PgGate::passing_on(GateConfig {
            reserved: Some(usize::from(connections_max >= RESERVE_FROM)),
            leak_after: config.leak_after,
            ..GateConfig::new(
                usize::try_from(connections_max).unwrap_or(usize::MAX),
                config.waiting_max,
                config.acquire_timeout,
            )
        });
        let sizing = Sizing::new(gate.clone(), connections_max, config.regrow_interval);
        let manager = Manager::new(name, connector, config.lifetime_max, sizing, metrics.clone());
        let bb8 = bb8::Pool::builder()
            .max_size(connections_max)
            // The visitor keeps as many open as there must be.
            .min_idle(0)
            .test_on_check_out(false)
            .retry_connection(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .queue_strategy(QueueStrategy::Lifo)
            .connection_timeout(BB8_TIMEOUT)
            .build_unchecked(manager.clone());
        let shared = Arc::new(Self {
            name,
            bb8,
            gate,
            line: Line::new(),
            shelf: Shelf::default(),
            manager,
            observer,
            metrics,
            counters: Counters::default(),
            pipeline: Pipeline::new(connections_max, config.waiting_max),
            retries: RetryBudget::for_connections(connections_max),
            runtime: Handle::current(),
            acquire_timeout: config.acquire_timeout,
            statement_timeout: config.statement_timeout,
            outage_grace: config.outage_grace,
            visitor: OnceLock::new(),
            herald: OnceLock::new(),
            router: OnceLock::new(),
        });
        // The cells are new, so nobody has set them.
        cell.get_or_init(|| Arc::downgrade(&shared));
        shared.visitor.get_or_init(|| Visitor::start(&shared, config, connections_max));
        shared.herald.get_or_init(|| Herald::start(&shared));
        Pipeline::observe(&shared);
        Ok(shared)
    }

    /// Name of the connection pool in metrics, statistics and the log.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn gate(&self) -> &PgGate {
        &self.gate
    }

    pub(crate) fn bb8(&self) -> &bb8::Pool<Manager> {
        &self.bb8
    }

    pub(crate) fn line(&self) -> &Line<Taken> {
        &self.line
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(crate) fn live(&self) -> &Live {
        self.manager.connector().live()
    }

    pub(crate) fn manager(&self) -> &Manager {
        &self.manager
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }

    pub(crate) fn metrics(&self) -> &PoolMetrics {
        &self.metrics
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The replicas, if this is a connection pool to a primary that has any.
    pub(crate) fn router(&self) -> Option<&Router> {
        self.router.get()
    }

    /// Begins to read from replicas too.
    pub(crate) fn route(self: &Arc<Self>, router: Router) {
        self.router.get_or_init(|| router);
        Router::watch(self);
    }

    pub(crate) fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// How much may be sent once more.
    pub(crate) fn retries(&self) -> &RetryBudget {
        &self.retries
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// By when a caller that asks `now` must have a connection.
    pub(crate) fn acquire_deadline(&self, now: Instant) -> Deadline {
        Deadline::within_from(now, self.acquire_timeout)
    }

    /// By when a statement that is sent now must be answered.
    pub(crate) fn statement_deadline(&self) -> Deadline {
        self.statement_deadline_from(Instant::now())
    }

    /// By when the statement must be answered for which a connection was just checked out.
    pub(crate) fn statement_deadline_from(&self, checked_out: Instant) -> Deadline {
        Deadline::within_from(checked_out, self.statement_timeout)
    }

    /// The longest time that a statement may take, the wait for a connection included.
    pub(crate) fn patience(&self) -> Duration {
        self.acquire_timeout.saturating_add(self.statement_timeout)
    }

    /// How long callers wait for a server that was there a moment ago.
    pub(crate) fn outage_grace(&self) -> Duration {
        self.outage_grace
    }

    /// By when a statement that is asked for now must be answered, the wait included.
    pub(crate) fn patience_deadline(&self) -> Deadline {
        Deadline::within(self.patience())
    }

    pub(crate) fn statement_timeout(&self) -> Duration {
        self.statement_timeout
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let gate = PoolStats::of_gate(&self.gate);
        let state = self.bb8.state();
        let closed = self.manager.closed().counts();
        let server_limit = self.counters.server_limit();
        let connections_max = self.manager.sizing().connections_max();
        PoolStats {
            name: self.name.to_owned(),
            connections: state.connections,
            idle_connections: state.idle_connections,
            limbo_connections: self.counters.limbo(),
            connections_max,
            budget_share: server_limit.map(|_| connections_max),
            budget_limit: server_limit,
            unknown_outcomes: self.observer.unknown_outcomes(),
            timeouts: gate.timeouts + self.counters.timeouts.load(Ordering::Relaxed),
            created: self.manager.created(),
            connect_failures: self.manager.outage().stats().attempts_failed,
            last_connect_failure: self.manager.outage().cause().map(|cause| cause.kind()),
            retries: self.retries.granted(),
            retries_denied: self.retries.denied(),
            discarded: closed.of(CloseReason::Poisoned),
            closed,
            breaker: self.manager.outage().stats(),
            ..gate
        }
    }
}

/// Numbers that neither the gate nor bb8 keeps.
#[derive(Default)]
pub(crate) struct Counters {
    limbo: AtomicU32,
    timeouts: AtomicU64,
    /// Connections that the server has for ordinary users; zero until it was asked.
    server_limit: AtomicU32,
}

impl Counters {
    pub(crate) fn limbo(&self) -> u32 {
        self.limbo.load(Ordering::Relaxed)
    }

    pub(crate) fn enter_limbo(&self) {
        self.limbo.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave_limbo(&self) {
        self.limbo.fetch_sub(1, Ordering::Relaxed);
    }

    /// The server, or the pooler in front of it, has this many connections for ordinary users.
    pub(crate) fn learn_limit(&self, connections: u32) {
        self.server_limit.store(connections, Ordering::Relaxed);
    }

    fn server_limit(&self) -> Option<u32> {
        Some(self.server_limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.fetch_add(1, Ordering::Relaxed);
    }
}
