//! The connection pool: lanes, leases and subscriptions of one server.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bb8_redis::bb8;
use forebay_config::RedisConfig;
use forebay_pooling::{Deadline, Gate, GateConfig, RetryBudget};
use futures_util::future::join_all;
use tokio::task::AbortHandle;

use crate::lane::{Lane, LaneStatus, Limits, StatusCell, supervise};
use crate::manager::RedisManager;
use crate::offline::Offline;
use crate::signal::Signal;
use crate::span::Durations;
use crate::stats::{Counters, RedisLaneStats, observe};
use crate::{DedicatedRedis, RedisError, RedisPoolStats, SharedRedis, Subscription};

/// Leases that may wait for a dedicated connection; one more is shed.
const DEDICATED_WAITING_MAX: usize = 1024;
/// How long a lease is waited for when there is no deadline in scope: longer than any process runs.
/// A consumer of a queue has nothing better to do than to wait.
pub(crate) const LEASE_WAIT_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often leases are looked at.
const LEAK_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Holders of leases that the statistics name.
const HOLDERS_MAX: usize = 3;
/// A lane that was not answered for this long does not count as connected. Ten signs of life are
/// due in this time.
const ANSWERED_MAX: Duration = Duration::from_secs(5);

/// Connections to one Redis server: shared lanes, dedicated leases, subscriptions.
///
/// Clones share everything. Dropping the last clone, handle and lease ends all connections.
#[derive(Debug, Clone)]
pub struct RedisPool(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) manager: RedisManager,
    pub(crate) config: RedisConfig,
    pub(crate) dedicated: bb8::Pool<RedisManager>,
    pub(crate) dedicated_manager: RedisManager,
    pub(crate) dedicated_gate: Gate,
    pub(crate) retry_budget: RetryBudget,
    /// No more leases are given out.
    pub(crate) draining: Signal,
    pub(crate) counters: Arc<Counters>,
    pub(crate) durations: Durations,
    lanes: Vec<Arc<Lane>>,
    offline: Arc<Offline>,
    replaced: Arc<AtomicU64>,
    /// Supervisors of lanes and the watch on leases.
    tasks: Vec<AbortHandle>,
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
        let dedicated_manager = manager.for_leases();
        let counters = Arc::new(Counters::default());
        let replaced = Arc::new(AtomicU64::new(0));
        let offline =
            Arc::new(Offline::new(config.offline_queue_max, config.offline_queue_bytes_max));
        let limits = Limits {
            in_flight_max: config.lane_in_flight_max.max(1),
            waiting_max: config.lane_waiting_max,
            failures_max: config.retries_max,
        };
        let lane_count = usize::try_from(config.lanes.max(1)).unwrap_or(1);
        let (lanes, mut tasks): (_, Vec<_>) = (0..lane_count)
            .map(|index| {
                let status = Arc::new(StatusCell::new());
                let manager = manager.for_lane(index, Arc::clone(&status));
                let lane = Arc::new(Lane::new(limits, Arc::clone(&offline), status));
                // The lane's connection comes from a bb8 pool without ever being checked out of
                // it: bb8 builds it, and the lane owns it.
                let source = builder(config).max_size(1).build_unchecked(manager.clone());
                let (replaced, counters) = (Arc::clone(&replaced), Arc::clone(&counters));
                let run = Arc::clone(&lane);
                let run = supervise(run, source, manager, config.backoff_max, replaced, counters);
                (lane, tokio::spawn(run).abort_handle())
            })
            .unzip();
        // bb8 panics on zero. Nobody gets to it then.
        let dedicated_max = config.dedicated_max.max(1);
        let permits = usize::try_from(dedicated_max).unwrap_or(usize::MAX);
        let dedicated_gate = Gate::new(GateConfig {
            // All leases are for work that blocks, and none is kept back for looking on.
            reserved: Some(0),
            leak_after: config.dedicated_leak_after,
            ..GateConfig::new(permits, DEDICATED_WAITING_MAX, LEASE_WAIT_MAX)
        });
        tasks.push(tokio::spawn(watch_leases(dedicated_gate.clone())).abort_handle());
        let pool = Self(Arc::new(Inner {
            dedicated: builder(config)
                .max_size(dedicated_max)
                .build_unchecked(dedicated_manager.clone()),
            dedicated_gate,
            retry_budget: RetryBudget::new(),
            draining: Signal::default(),
            manager,
            config: config.clone(),
            lanes,
            offline,
            dedicated_manager,
            replaced,
            counters,
            durations: Durations::new(),
            tasks,
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
    /// Waits for a place, and then for the server for as long as the deadline in scope allows:
    /// without one, until the server is there, because a consumer has nothing better to do. Dropping
    /// the future ends the wait. The line that calls this is shown as the holder of the lease.
    ///
    /// # Errors
    /// [`RedisError::Shed`] when too many wait already, [`RedisError::Timeout`] or
    /// [`RedisError::Unreachable`] with the cause when the deadline came first, and at once
    /// [`RedisError::Auth`], [`RedisError::Draining`], or [`RedisError::NoneDedicated`] when the
    /// setting `redis.dedicated_max` is zero.
    #[track_caller]
    pub fn dedicated(&self) -> impl Future<Output = Result<DedicatedRedis, RedisError>> + Send {
        // Taken here: inside the future it would be the line of whoever polls it.
        let caller = Location::caller();
        DedicatedRedis::lease(self.clone(), caller)
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

    /// Refuses new commands and leases, waits for the commands under way until `deadline`, then
    /// closes the lanes. Leases end with their holders.
    pub async fn drain(&self, deadline: Deadline) {
        self.0.dedicated_gate.close();
        self.0.draining.raise();
        let drained = join_all(self.0.lanes.iter().map(|lane| lane.drain(deadline))).await;
        if drained.contains(&false) {
            tracing::warn!("commands were still under way when the drain ended");
        }
        self.0.end();
    }
}

impl Inner {
    /// The lane that carries requests now: the first one that is connected. Together requests share
    /// messages and cost half of what they cost apart, and one connection carries more than a
    /// server answers; the other lanes stand by, connected, for when it is lost.
    pub(crate) fn lane(&self) -> &Arc<Lane> {
        let first = &self.lanes[0];
        if first.is_connected() {
            return first;
        }
        for lane in &self.lanes {
            lane.want();
        }
        self.lanes.iter().find(|lane| lane.is_connected()).unwrap_or(first)
    }

    fn stats(&self) -> RedisPoolStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let lanes: Vec<_> = self.lanes.iter().map(|lane| lane.snapshot()).collect();
        let status = lanes.iter().map(|lane| lane.status).max().unwrap_or(LaneStatus::End);
        let offline = self.offline.held();
        let dedicated = self.dedicated.state();
        let gate = self.dedicated_gate.stats();
        let breakers = [&self.manager, &self.dedicated_manager].map(|it| it.breaker().stats());
        RedisPoolStats {
            name: "redis".to_owned(),
            connected: lanes.iter().any(|lane| {
                lane.status == LaneStatus::Ready
                    && lane.answered_ago.is_some_and(|ago| ago < ANSWERED_MAX)
            }),
            status: status.as_str(),
            command_queue_length: lanes.iter().map(|lane| lane.in_flight).sum(),
            command_queue_max: self.config.lane_in_flight_max.max(1) * lanes.len(),
            offline_queue_length: offline.requests,
            offline_queue_max: self.config.offline_queue_max,
            offline_queue_bytes: offline.bytes,
            waiting: lanes.iter().map(|lane| lane.waiting).sum(),
            oldest_in_flight: lanes.iter().filter_map(|lane| lane.oldest_in_flight).max(),
            lanes: lanes
                .iter()
                .map(|lane| RedisLaneStats {
                    status: lane.status.as_str(),
                    in_flight: lane.in_flight,
                    waiting: lane.waiting,
                    oldest_in_flight: lane.oldest_in_flight,
                    answered_ago: lane.answered_ago,
                })
                .collect(),
            reconnects: read(&counters.reconnects),
            breaker: breakers[0].state,
            last_connect_failure: self.manager.last_failure(),
            connect_failures: breakers.iter().map(|breaker| breaker.attempts_failed).sum(),
            retry_in: self.manager.retry_in(),
            timeouts: read(&counters.timeouts),
            retries: self.retry_budget.granted(),
            retries_denied: self.retry_budget.denied(),
            shed: read(&counters.shed),
            unknown_outcomes: read(&counters.unknown_outcomes),
            dedicated_connections: dedicated.connections,
            dedicated_idle_connections: dedicated.idle_connections,
            dedicated_in_use: gate.held,
            dedicated_waiting: gate.waiting,
            dedicated_leaked: gate.leaked,
            dedicated_breaker: breakers[1].state,
            dedicated_last_connect_failure: self.dedicated_manager.last_failure(),
            dedicated_connections_max: self.config.dedicated_max,
            dedicated_holders: self.dedicated_gate.oldest_holders(HOLDERS_MAX),
            subscriptions: counters.subscriptions.load(Ordering::Relaxed),
            subscription_events: counters.subscription_events.load(Ordering::Relaxed),
            subscription_bytes: counters.subscription_bytes.load(Ordering::Relaxed),
            subscription_bytes_max: self.config.subscription_bytes_max,
            subscription_overflows: read(&counters.subscription_overflows),
        }
    }

    fn end(&self) {
        for task in &self.tasks {
            task.abort();
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

/// Reports leases that are held for long, each once, with the line that took it.
async fn watch_leases(gate: Gate) {
    let mut ticks = tokio::time::interval(LEAK_CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        gate.report_leaks("redis");
    }
}

fn builder(config: &RedisConfig) -> bb8::Builder<RedisManager> {
    bb8::Pool::builder()
        .connection_timeout(config.connect_timeout)
        // A lease is checked when it is given out, so a connection that died idle is replaced
        // before a caller meets it.
        .test_on_check_out(true)
}
