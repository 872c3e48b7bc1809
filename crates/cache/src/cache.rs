//! What the entities of a process share, and the tasks that keep it right.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};
use forebay_pooling::Deadline;
use forebay_postgres::PgPool;
use forebay_redis::RedisPool;
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::chance::Chance;
use crate::changes::announced::Memory;
use crate::changes::log::LogReader;
use crate::changes::newest::Newest;
use crate::changes::outbox::Outbox;
use crate::changes::pending::Pending;
use crate::changes::progress::Progress;
use crate::changes::settled::Settled;
use crate::changes::snapshots::Snapshots;
use crate::changes::tail::{PAGE_MAX, Tail};
use crate::l1::local::{EntityId, Local};
use crate::l2::dataset::Dataset;
use crate::l2::keeper::Keeper;
use crate::l2::remote::Remote;
use crate::metrics::Metrics;
use crate::operators::inspect::AnyEntity;
use crate::operators::verifier::Verifier;
use crate::reads::warm_up;
use crate::{Entity, EntityCache, List, ListCache, Loader, PageLoader, Paged, WallClock};

/// Fills of L2 under way at once. One more is dropped: the next reader fills.
const FILLS_MAX: usize = 256;

/// The two-level cache of one process. Clones share everything.
///
/// Dropping the last clone and the last [`EntityCache`] ends its tasks.
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<CacheInner>);

pub(crate) struct CacheInner {
    pub(crate) local: Arc<Local>,
    /// The pages of lists. They are large, and have room of their own.
    pub(crate) pages: Arc<Local>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) settled: Arc<Settled>,
    pub(crate) newest: Newest,
    pub(crate) remote: Arc<Remote>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) verifier: Verifier,
    pub(crate) clock: WallClock,
    pub(crate) chance: Chance,
    pub(crate) fill_permits: Semaphore,
    pub(crate) config: CacheConfig,
    pub(crate) entities: Entities,
    next_entity: AtomicU32,
    tasks: Vec<AbortHandle>,
}

/// The entities of a process, by name, for announcements and operators.
pub(crate) type Entities = Arc<RwLock<Vec<Arc<dyn AnyEntity>>>>;

impl Cache {
    /// A cache in memory and in `redis`, of rows whose changes are in the outbox of `postgres`. Must
    /// be called inside a tokio runtime, which runs its tasks.
    ///
    /// It works from the start: until Redis answers, L2 is skipped, and until Postgres answers, an
    /// entry of L1 is trusted no longer than the caller's bound.
    pub fn new(config: &CacheConfig, postgres: PgPool, redis: RedisPool) -> Self {
        Self::with_clock(config, postgres, redis, WallClock::default())
    }

    /// As [`Cache::new`], with a wall clock that may be wrong.
    pub fn with_clock(
        config: &CacheConfig,
        postgres: PgPool,
        redis: RedisPool,
        clock: WallClock,
    ) -> Self {
        Self::with_chance(config, postgres, redis, clock, Chance::default())
    }

    pub(crate) fn with_chance(
        config: &CacheConfig,
        postgres: PgPool,
        redis: RedisPool,
        clock: WallClock,
        chance: Chance,
    ) -> Self {
        let metrics = Metrics::new();
        let local = Arc::new(Local::new(config.l1_bytes_max, config.l1_negative_bytes_max));
        // Every page exists, so none is negative.
        let pages = Arc::new(Local::new(config.list.l1_bytes_max, 0));
        let progress = Arc::new(Progress::new(config.staleness_max));
        let (settled, newest) = (Arc::new(Settled::default()), Newest::new(postgres.clone()));
        let (dataset, entities) = (Arc::new(Dataset::default()), Entities::default());
        let (memory, pending) = (Arc::new(Memory::default()), Pending::new(Arc::clone(&metrics)));
        let remote = Arc::new(Remote::new(&redis, config, &dataset, &pending, &metrics));
        let snapshots = Arc::new(Snapshots::default());
        let (verifier, verify) =
            Verifier::new(config, postgres.clone(), Arc::clone(&snapshots), Arc::clone(&metrics));
        let tail = Tail {
            outbox: Outbox::new(postgres.clone(), PAGE_MAX),
            snapshots,
            interval: config.outbox_interval,
            progress: Arc::clone(&progress),
            settled: Arc::clone(&settled),
            local: Arc::clone(&local),
            entities: Arc::clone(&entities),
            pending: Arc::clone(&pending),
            dataset: Arc::clone(&dataset),
            memory: Arc::clone(&memory),
            metrics: Arc::clone(&metrics),
        };
        let keeper = Keeper {
            outbox: Outbox::new(postgres, PAGE_MAX),
            remote: Arc::clone(&remote),
            dataset: Arc::clone(&dataset),
            pending: Arc::clone(&pending),
            memory: Arc::clone(&memory),
            entities: Arc::clone(&entities),
            metrics: Arc::clone(&metrics),
        };
        let log = LogReader {
            redis,
            dataset: Arc::clone(&dataset),
            memory: Arc::clone(&memory),
            local: Arc::clone(&local),
            entities: Arc::clone(&entities),
            metrics: Arc::clone(&metrics),
        };
        let heat = warm_up::run(Arc::clone(&entities), Arc::clone(&remote), config.warm_up_keys);
        let mut tasks = vec![spawn(tail.run()), spawn(verify), spawn(keeper.run())];
        tasks.extend([spawn(log.run()), spawn(heat)]);
        let inner = Arc::new(CacheInner {
            local,
            pages,
            progress,
            settled,
            newest,
            remote,
            dataset,
            pending,
            memory,
            metrics,
            verifier,
            clock,
            chance,
            fill_permits: Semaphore::new(FILLS_MAX),
            config: config.clone(),
            entities,
            next_entity: AtomicU32::new(0),
            tasks,
        });
        inner.register_gauges();
        Self(inner)
    }

    /// Adds an entity. Two entities of one cache must not have the same name.
    pub fn entity<E: Entity, L: Loader<E>>(
        &self,
        config: &EntityCacheConfig,
        loader: L,
    ) -> EntityCache<E, L> {
        let id = EntityId(self.0.next_entity.fetch_add(1, Ordering::Relaxed));
        let entity = EntityCache::new(id, Arc::clone(&self.0), config.clone(), loader);
        // Only a weak reference: the entity keeps the cache alive, not the other way round.
        self.0.entities.write().push(Arc::new(Arc::downgrade(entity.inner())));
        // What L2 holds of it may be old.
        self.0.dataset.check();
        entity
    }

    /// Adds a list, by the settings of lists. No two lists and entities of one cache may have the
    /// same name.
    pub fn list<T: List, L: PageLoader<T>>(&self, loader: L) -> ListCache<T, L> {
        let ListCacheConfig { ttl, stale_max, page_bytes_max, loads_max, .. } = self.0.config.list;
        let config = EntityCacheConfig {
            ttl,
            negative_ttl: ttl,
            stale_max,
            value_bytes_max: page_bytes_max,
            loads_max,
            loads_waiting_keys_max: self.0.config.list.loads_waiting_max,
        };
        ListCache::new(self.entity(&config, Paged(loader)))
    }

    /// Waits until Redis has confirmed every change made so far, or until `deadline`; whether it
    /// has. To be called before the process ends, after its last write: what is unconfirmed then
    /// is not announced any more.
    pub async fn drain(&self, deadline: Deadline) -> bool {
        let settled = self.0.pending.all_settled();
        let settled = tokio::time::timeout_at(deadline.instant(), settled).await.is_ok();
        if !settled {
            let unconfirmed = self.0.pending.len();
            tracing::warn!(
                unconfirmed,
                "the process ends with changes that redis has not confirmed"
            );
        } else if self.0.config.warm_up_keys > 0 {
            // A hint for whoever starts next, with the time that is left.
            let told = tokio::time::timeout_at(deadline.instant(), self.tell_heat()).await;
            tracing::debug!(in_time = told.is_ok(), "redis was told what is read most");
        }
        settled
    }
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

/// Name, description and value of a gauge.
type Gauge = (&'static str, &'static str, fn(&CacheInner) -> u64);

impl CacheInner {
    fn register_gauges(self: &Arc<Self>) {
        let gauges: [Gauge; 6] = [
            ("forebay.cache.l1.bytes", "Bytes held in L1.", |cache| cache.local.usage().0),
            (
                "forebay.cache.l1.negative.bytes",
                "Bytes held in L1 for keys that have no row.",
                |cache| cache.local.negative_usage().0,
            ),
            ("forebay.cache.l1.lists.bytes", "Bytes held in L1 for pages of lists.", |cache| {
                cache.pages.usage().0
            }),
            ("forebay.cache.l1.entries", "Entries held in L1.", |cache| cache.local.usage().1),
            ("forebay.cache.pending", "Changes that Redis has not confirmed.", |cache| {
                u64::try_from(cache.pending.len()).unwrap_or(u64::MAX)
            }),
            ("forebay.cache.announced", "Announcements that are remembered.", |cache| {
                u64::try_from(cache.memory.len()).unwrap_or(u64::MAX)
            }),
        ];
        for (name, description, read) in gauges {
            let weak = Arc::downgrade(self);
            let read = move || weak.upgrade().map(|cache| read(&cache));
            self.metrics.gauge(name, description, None, read);
        }
    }
}

impl Drop for CacheInner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("l1", &self.0.local)
            .field("l2", &self.0.dataset.state())
            .finish_non_exhaustive()
    }
}
