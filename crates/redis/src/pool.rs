//! The connection pool: lanes, leases and subscriptions of one server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bb8_redis::bb8;
use forebay_config::RedisConfig;
use forebay_pooling::{Deadline, Gate, GateConfig};
use tokio::task::AbortHandle;

use crate::lane::{Lane, LaneStatus, supervise};
use crate::manager::RedisManager;
use crate::span::Durations;
use crate::stats::{Counters, observe};
use crate::{DedicatedRedis, RedisError, RedisPoolStats, SharedRedis, Subscription};

/// Leases that may wait for a dedicated connection; one more is shed.
const DEDICATED_WAITING_MAX: usize = 1024;

/// Connections to one Redis server: shared lanes, dedicated leases, subscriptions.
///
/// Clones share everything. Dropping the last clone, handle and lease ends all connections.
#[derive(Debug, Clone)]
pub struct RedisPool(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) manager: RedisManager,
    pub(crate) config: RedisConfig,
    pub(crate) lanes: Vec<Arc<Lane>>,
    pub(crate) dedicated: bb8::Pool<RedisManager>,
    pub(crate) dedicated_manager: RedisManager,
    pub(crate) dedicated_gate: Gate,
    pub(crate) replaced: Arc<AtomicU64>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) durations: Durations,
    supervisors: Vec<AbortHandle>,
}

impl RedisPool {
    /// A connection pool that connects when it is first used, and again whenever it must.
    ///
    /// Must be called inside a tokio runtime, which runs the supervisors of the lanes.
    ///
    /// # Errors
    /// [`RedisError::Config`] if the URL is not one of a Redis server. A server that is down is
    /// no error here: [`RedisPool::ready`] tells.
    pub fn new(config: &RedisConfig) -> Result<Self, RedisError> {
        let manager = RedisManager::new(config)?;
        let dedicated_manager = manager.without_ready_check();
        let counters = Arc::new(Counters::default());
        let replaced = Arc::new(AtomicU64::new(0));
        let lanes: Vec<_> = (0..config.lanes.max(1))
            .map(|_| Arc::new(Lane::new(config.lane_in_flight_max.max(1), config.command_timeout)))
            .collect();
        // The lanes' connections come from a bb8 pool without ever being checked out of it: bb8
        // builds and customizes them, and the lane owns them.
        let source = builder(config).max_size(config.lanes.max(1)).build_unchecked(manager.clone());
        let supervisors = lanes
            .iter()
            .map(|lane| {
                let supervisor = supervise(
                    Arc::clone(lane),
                    source.clone(),
                    config.backoff_max,
                    Arc::clone(&replaced),
                    Arc::clone(&counters),
                );
                tokio::spawn(supervisor).abort_handle()
            })
            .collect();
        let dedicated_max = config.dedicated_max.max(1);
        let pool = Self(Arc::new(Inner {
            dedicated: builder(config)
                .max_size(dedicated_max)
                .build_unchecked(dedicated_manager.clone()),
            dedicated_gate: Gate::new(GateConfig {
                reserved: Some(0),
                ..GateConfig::new(
                    usize::try_from(dedicated_max).unwrap_or(usize::MAX),
                    DEDICATED_WAITING_MAX,
                    config.connect_timeout,
                )
            }),
            manager,
            config: config.clone(),
            lanes,
            dedicated_manager,
            replaced,
            counters,
            durations: Durations::new(),
            supervisors,
        }));
        let weak = Arc::downgrade(&pool.0);
        observe(move || weak.upgrade().map(|inner| inner.stats()));
        Ok(pool)
    }

    /// Waits until a command is answered.
    ///
    /// # Errors
    /// Why no command was answered within the connect timeout or the deadline in scope.
    pub async fn ready(&self) -> Result<(), RedisError> {
        let connect_timeout = self.0.config.connect_timeout;
        self.shared().with_timeout(connect_timeout).ping().await
    }

    /// A handle whose commands travel, pipelined, on connections shared by the whole process.
    pub fn shared(&self) -> SharedRedis {
        SharedRedis::new(self.clone())
    }

    /// A connection for the caller alone, for commands that block or that belong together.
    ///
    /// # Errors
    /// [`RedisError::Shed`], [`RedisError::Unreachable`], [`RedisError::Auth`] or
    /// [`RedisError::Draining`].
    pub async fn dedicated(&self) -> Result<DedicatedRedis, RedisError> {
        DedicatedRedis::lease(self).await
    }

    /// Listens on a channel, across reconnections. The key prefix is put before its name.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        Subscription::start(self, channel)
    }

    /// How many connections of lanes have been replaced so far. If it is the same before a command
    /// and after its answer, the server was not lost in between.
    pub fn replaced_connections(&self) -> u64 {
        self.0.replaced.load(Ordering::SeqCst)
    }

    /// A name with the key prefix before it, for the arguments of scripts.
    pub fn prefixed(&self, name: &str) -> String {
        [self.0.config.key_prefix.as_str(), name].concat()
    }

    /// The state of the connection pool now.
    pub fn stats(&self) -> RedisPoolStats {
        self.0.stats()
    }

    /// Refuses new commands, waits for those under way until `deadline`, then closes the lanes.
    pub async fn drain(&self, deadline: Deadline) {
        self.0.dedicated_gate.close();
        for lane in &self.0.lanes {
            lane.gate().close();
        }
        for lane in &self.0.lanes {
            if !lane.gate().idle(deadline).await {
                tracing::warn!("commands were still under way when the drain ended");
            }
        }
        self.0.end();
    }
}

impl Inner {
    fn stats(&self) -> RedisPoolStats {
        let counters = &self.counters;
        let status = self.lanes.iter().map(|lane| lane.status()).max().unwrap_or(LaneStatus::End);
        let gates: Vec<_> = self.lanes.iter().map(|lane| lane.gate().stats()).collect();
        let dedicated = self.dedicated.state();
        RedisPoolStats {
            name: "redis".to_owned(),
            connected: self.lanes.iter().any(|lane| lane.current().is_some()),
            status: status.as_str(),
            command_queue_length: gates.iter().map(|gate| gate.held).sum(),
            offline_queue_length: counters.offline.load(Ordering::Relaxed),
            waiting: gates.iter().map(|gate| gate.waiting).sum(),
            reconnects: counters.reconnects.load(Ordering::Relaxed),
            timeouts: counters.timeouts.load(Ordering::Relaxed),
            retries: counters.retries.load(Ordering::Relaxed),
            shed: counters.shed.load(Ordering::Relaxed),
            unknown_outcomes: counters.unknown_outcomes.load(Ordering::Relaxed),
            dedicated_connections: dedicated.connections,
            dedicated_idle_connections: dedicated.idle_connections,
            dedicated_connections_max: self.config.dedicated_max,
        }
    }

    fn end(&self) {
        for supervisor in &self.supervisors {
            supervisor.abort();
        }
        for lane in &self.lanes {
            lane.end();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

fn builder(config: &RedisConfig) -> bb8::Builder<RedisManager> {
    bb8::Pool::builder()
        .connection_timeout(config.connect_timeout)
        // A lease is checked when it is given out, so a connection that died idle is replaced
        // before a caller meets it.
        .test_on_check_out(true)
}
