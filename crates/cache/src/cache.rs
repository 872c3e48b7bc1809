//! What the entities of a process share, and the tasks that keep it right.

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_config::{CacheConfig, EntityCacheConfig};
use forebay_pooling::Deadline;
use forebay_postgres::PgPool;
use forebay_redis::{Event, RedisPool, Subscription};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::announce::{Announcement, Pending, send_pending};
use crate::inspect::AnyEntity;
use crate::link::Link;
use crate::local::{EntityId, Local};
use crate::metrics::Metrics;
use crate::outbox::Outbox;
use crate::progress::Progress;
use crate::remote::Remote;
use crate::tail::{PAGE_MAX, Tail};
use crate::{Entity, EntityCache, Loader};

/// Fills of L2 under way at once. One more is dropped: the next reader fills.
const FILLS_MAX: usize = 256;

/// The two-level cache of one process. Clones share everything.
///
/// Dropping the last clone and the last [`EntityCache`] ends its tasks.
#[derive(Clone)]
pub struct Cache(pub(crate) Arc<CacheInner>);

pub(crate) struct CacheInner {
    pub(crate) local: Arc<Local>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) remote: Arc<Remote>,
    pub(crate) link: Arc<Link>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fill_permits: Semaphore,
    pub(crate) l2_timeout: Duration,
    /// Tells this process's announcements from those of others.
    pub(crate) origin: String,
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
        let metrics = Metrics::new();
        let link = Link::new();
        let local = Arc::new(Local::new(config.l1_bytes_max, config.l1_negative_bytes_max));
        let progress = Arc::new(Progress::new(config.staleness_max));
        let pending = Pending::new();
        let entities = Entities::default();
        let origin = Uuid::new_v4().simple().to_string();
        let subscription = redis.subscribe(Remote::channel());
        let remote = Arc::new(Remote::new(
            redis,
            config.l2_timeout,
            Arc::clone(&link),
            Arc::clone(&metrics),
        ));
        let listener = Listener {
            local: Arc::clone(&local),
            link: Arc::clone(&link),
            entities: Arc::clone(&entities),
            metrics: Arc::clone(&metrics),
            origin: origin.clone(),
        };
        let tail = Tail {
            outbox: Outbox::new(postgres, PAGE_MAX),
            interval: config.outbox_interval,
            progress: Arc::clone(&progress),
            local: Arc::clone(&local),
            entities: Arc::clone(&entities),
            pending: Arc::clone(&pending),
            link: Arc::clone(&link),
            metrics: Arc::clone(&metrics),
        };
        let tasks = vec![
            tokio::spawn(tail.run()).abort_handle(),
            tokio::spawn(listener.run(subscription)).abort_handle(),
            tokio::spawn(keep_l2_trusted(Arc::clone(&link), Arc::clone(&remote), origin.clone()))
                .abort_handle(),
            tokio::spawn(send_pending(Arc::clone(&pending), Arc::clone(&remote))).abort_handle(),
        ];
        let inner = Arc::new(CacheInner {
            local,
            progress,
            remote,
            link,
            pending,
            metrics,
            fill_permits: Semaphore::new(FILLS_MAX),
            l2_timeout: config.l2_timeout,
            origin,
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
        entity
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
        }
        settled
    }
}

/// Name, description and value of a gauge.
type Gauge = (&'static str, &'static str, fn(&CacheInner) -> u64);

impl CacheInner {
    fn register_gauges(self: &Arc<Self>) {
        let gauges: [Gauge; 4] = [
            ("forebay.cache.l1.bytes", "Bytes held in L1.", |cache| cache.local.usage().0),
            (
                "forebay.cache.l1.negative.bytes",
                "Bytes held in L1 for keys that have no row.",
                |cache| cache.local.negative_usage().0,
            ),
            ("forebay.cache.l1.entries", "Entries held in L1.", |cache| cache.local.usage().1),
            ("forebay.cache.pending", "Changes that Redis has not confirmed.", |cache| {
                u64::try_from(cache.pending.len()).unwrap_or(u64::MAX)
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
            .field("link", &self.0.link)
            .finish_non_exhaustive()
    }
}

/// Applies what other replicas announce.
struct Listener {
    local: Arc<Local>,
    link: Arc<Link>,
    entities: Entities,
    metrics: Arc<Metrics>,
    origin: String,
}

impl Listener {
    async fn run(self, mut subscription: Subscription) {
        loop {
            match subscription.next().await {
                Event::Connected => self.link.connected(),
                Event::Disconnected => self.link.disconnected(),
                Event::CaughtUp(_instant) => self.link.lives(),
                Event::Message(message) => self.apply(&message),
            }
        }
    }

    fn apply(&self, message: &[u8]) {
        let Some(announcement) = Announcement::decode(message) else {
            tracing::warn!(bytes = message.len(), "an announcement cannot be read");
            return;
        };
        // This process forgot before it announced. Forgetting again would only drop what was read
        // since then.
        if announcement.origin == self.origin {
            return;
        }
        let entities = self.entities.read();
        match announcement.everything_named() {
            Some(None) => {
                self.link.renew();
                return self.forget(None);
            }
            Some(Some(name)) => {
                let named = entities.iter().find(|entity| entity.name() == name);
                if let Some(id) = named.and_then(|entity| entity.id()) {
                    self.forget(Some(id));
                }
                return;
            }
            None => {}
        }
        for entity in entities.iter().filter(|entity| entity.name() == announcement.entity) {
            // Evicting brings no version; then the key goes in any case.
            let version = Some(announcement.version).filter(|version| *version > 0);
            entity.forget(announcement.key_text, version);
            self.metrics.invalidated(entity.name(), "remote", 1);
        }
    }
}

impl Listener {
    /// Drops an entity or everything from L1. That takes milliseconds for each ten thousand
    /// entries, and announcements go on meanwhile.
    fn forget(&self, entity: Option<EntityId>) {
        let local = Arc::clone(&self.local);
        tokio::task::spawn_blocking(move || {
            let forgotten = local.forget(entity);
            tracing::info!(forgotten, "entries were cleared by another process");
        });
    }
}

/// Finds out, whenever the connection to Redis has changed, whether L2 can be trusted, and makes
/// it so. Never ends.
///
/// A connection that was lost may mean that Redis could not be written to for a while, and then
/// entries may be old without anyone knowing which. A new epoch makes all of them untrusted.
async fn keep_l2_trusted(link: Arc<Link>, remote: Arc<Remote>, origin: String) {
    let mut granted_connection = None;
    loop {
        // Every sign of life comes by here. So after a lane was replaced, L2 is trusted again no
        // sooner than the subscription is known to have survived it.
        link.changed().await;
        let (session, connection) = (link.session(), link.connection());
        let replaced = remote.replaced_connections();
        if !link.is_connected() || link.trust(replaced).is_some() {
            continue;
        }
        // The first connection of a process follows no outage that it has seen.
        let lost = connection != 1 && granted_connection != Some(connection);
        let required = link.epoch_required();
        // Changes that were given up reach the memory of the other replicas this way.
        let forget_all = required.map(|_| Announcement::everything(&origin).encode());
        if remote.synchronize(lost || required.is_some(), forget_all.as_deref()).await {
            granted_connection = Some(connection);
            if let Some(required) = required {
                link.epoch_made(required);
            }
            link.grant(session, replaced);
        }
    }
}
