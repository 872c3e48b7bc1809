//! A process of a service whose loads, connections and news can be held up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use forebay_cache::{Cache, EntityCache, L2State, Loader, Lookup, Rows};
use forebay_config::CacheConfig;
use forebay_pooling::Deadline;
use forebay_postgres::PgPool;
use forebay_redis::RedisPool;
use forebay_testkit::{postgres_config, redis_config, redis_url};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::gate::{Gate, Side};
use super::pause::Pause;
use super::tap::Tap;
use crate::store::{Row, Store, StoreDown};
use crate::{BOUNDED, cache_config, entity_config, eventually};

/// Loads of one process, one of which can be stopped on either side of its statement.
#[derive(Debug, Clone)]
pub(crate) struct Loads(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    armed: Mutex<Option<(u64, Side, Pause)>>,
}

impl Loads {
    fn new(store: &Store) -> Self {
        Self(Arc::new(Inner { store: store.clone(), armed: Mutex::new(None) }))
    }

    /// Stops the next load of a key, once.
    pub(crate) fn stop(&self, side: Side, key: u64) -> Pause {
        let pause = Pause::new();
        *self.0.armed.lock() = Some((key, side, pause.clone()));
        pause
    }

    fn stops(&self, side: Side, keys: &[u64]) -> Option<Pause> {
        let mut armed = self.0.armed.lock();
        let armed = armed.take_if(|(key, at, _)| *at == side && keys.contains(key));
        armed.map(|(.., pause)| pause)
    }
}

impl Loader<Row> for Loads {
    type Error = StoreDown;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Rows<Row>, StoreDown> {
        if let Some(pause) = self.stops(Side::Before, &keys) {
            pause.stop().await;
        }
        let rows = Loader::<Row>::load_many(&self.0.store, keys.clone()).await;
        if let Some(pause) = self.stops(Side::After, &keys) {
            pause.stop().await;
        }
        rows
    }
}

/// The process.
pub(crate) struct Process {
    pub(crate) cache: Cache,
    pub(crate) rows: EntityCache<Row, Loads>,
    pub(crate) loads: Loads,
    pub(crate) gate: Gate,
    tap: Tap,
}

/// Changes are looked for often, so that a case takes little time.
fn config() -> CacheConfig {
    CacheConfig { outbox_interval: Duration::from_millis(10), ..cache_config() }
}

impl Process {
    /// One whose L2 is in use.
    pub(crate) async fn start(prefix: &str, store: &Store) -> Self {
        let gate = Gate::start(&redis_url()).await;
        let (tap, url) = Tap::of(store.url()).await;
        let redis = RedisPool::new(&redis_config(&gate.url(), prefix)).expect("settings");
        let news = PgPool::new(&postgres_config(&url), "cache-test").expect("a url");
        let cache = Cache::new(&config(), news, redis);
        let loads = Loads::new(store);
        let rows = cache.entity(&entity_config(), loads.clone());
        eventually("redis is trusted", async || cache.stats().l2_state == L2State::Trusted).await;
        Self { cache, rows, loads, gate, tap }
    }

    /// From now on the process learns of no change that others make.
    pub(crate) fn deafen(&self) {
        self.gate.deafen(true);
        self.tap.close();
    }

    /// It learns of all of them.
    pub(crate) fn hear(&self) {
        self.gate.deafen(false);
        self.tap.open();
    }

    /// Waits until it knows of every change that was committed before `instant`.
    pub(crate) async fn knows(&self, instant: Instant) {
        eventually("the outbox was read", async || {
            self.cache.stats().caught_up_ago.is_some_and(|ago| ago < instant.elapsed())
        })
        .await;
    }

    /// Waits until Redis has confirmed all that it knows.
    pub(crate) async fn told(&self) {
        assert!(self.cache.drain(Deadline::after(Duration::from_secs(10))).await, "redis confirms");
    }

    /// Fills of L2 that have come to an end, whichever.
    pub(crate) fn fills(&self) -> u64 {
        let stats = self.cache.stats();
        stats.entities.iter().flat_map(|entity| &entity.fills).map(|(_, count)| count).sum()
    }

    /// Waits until a fill has come to its end. There is none if the process has lost its connection
    /// meanwhile, as it may on a busy machine.
    pub(crate) async fn filled_more_than(&self, fills: u64) {
        let until = Instant::now() + Duration::from_secs(1);
        while self.fills() <= fills && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Tells of a change that was committed, and goes on when this process has forgotten: nobody
    /// has confirmed it by then.
    pub(crate) async fn invalidate(&self, key: u64, version: i64) {
        let rows = self.rows.clone();
        let changes = [(key, version)];
        let mut telling = Box::pin(async move { rows.invalidate(&changes).await });
        if futures_util::poll!(pin!(&mut telling)).is_pending() {
            tokio::spawn(telling);
        }
    }

    /// The value of a key, and where the answer came from.
    pub(crate) async fn read(&self, key: u64) -> (Option<String>, &'static str) {
        text_of(&self.rows.get(&key, BOUNDED).await.expect("answered"))
    }
}

pub(crate) fn text_of(lookup: &Lookup<Row>) -> (Option<String>, &'static str) {
    let text = lookup.value.as_ref().map(|entry| entry.value.text.clone());
    (text, lookup.outcome.as_str())
}
