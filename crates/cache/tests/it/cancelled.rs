//! Callers that go away while what they wait for waits for its load.

use std::fmt::Debug;

use forebay_cache::{Ask, CacheError, Consistency};
use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};
use forebay_testkit::{redis_prefix, redis_url};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::poll;

use crate::store::{Store, StoreDown};
use crate::{BOUNDED, Replica, cache_config, entity_config, eventually};

/// Keys, or pages, that may wait.
const WAITING_MAX: usize = 40;

type Read = BoxFuture<'static, Result<(), CacheError<StoreDown>>>;

/// A process that loads one thing at a time, and what it reads.
struct Crowd {
    store: Store,
    replica: Replica,
    name: &'static str,
    read: Box<dyn Fn(u64, Ask) -> Read>,
}

impl Crowd {
    async fn of_rows() -> Self {
        let (store, replica) = start().await;
        let rows = replica.rows.clone();
        let read = move |key: u64, ask: Ask| -> Read {
            let rows = rows.clone();
            async move { rows.get(&key, ask).await.map(drop) }.boxed()
        };
        Self { store, replica, name: "row", read: Box::new(read) }
    }

    async fn of_pages() -> Self {
        let (store, replica) = start().await;
        let list = replica.cache.list(store.clone());
        let read = move |number: u64, ask: Ask| -> Read {
            let list = list.clone();
            async move { list.page(&number.to_string(), ask).await.map(drop) }.boxed()
        };
        Self { store, replica, name: "row_list", read: Box::new(read) }
    }

    /// What waits for a load.
    fn waiting(&self) -> usize {
        let stats = self.replica.cache.stats();
        let own = stats.entities.iter().filter(|entity| entity.entity == self.name);
        own.map(|entity| entity.keys_waiting).sum()
    }

    async fn until_waiting(&self, what: &str, count: usize) {
        eventually(what, async || self.waiting() == count).await;
    }

    fn read(&self, number: u64, ask: impl Into<Ask>) -> Read {
        (self.read)(number, ask.into())
    }

    /// Lets a load begin and go on until the store lets go of it.
    async fn occupy(&self) -> Read {
        self.store.hold();
        let mut first = self.read(0, Consistency::Strict);
        assert!(poll!(&mut first).is_pending());
        self.store.held().await;
        first
    }
}

async fn start() -> (Store, Replica) {
    let store = Store::new().await;
    let list =
        ListCacheConfig { loads_max: 1, loads_waiting_max: WAITING_MAX, ..cache_config().list };
    let cache = CacheConfig { list, ..cache_config() };
    let rows =
        EntityCacheConfig { loads_max: 1, loads_waiting_keys_max: WAITING_MAX, ..entity_config() };
    let replica = Replica::with(&redis_url(), &redis_prefix(), &store, &cache, &rows);
    let replica = replica.l2_in_use(&store).await;
    (store, replica)
}

fn answered<T: Debug>(answer: Result<T, CacheError<StoreDown>>) -> T {
    answer.expect("answered")
}

/// The queue is full, everybody in it goes away, and there is room: nothing that was read for them.
async fn whoever_goes_away_makes_room(crowd: Crowd) {
    let loads = crowd.store.loads();
    let first = crowd.occupy().await;
    for _ in 0..3 {
        let callers: Vec<_> = (1..)
            .take(WAITING_MAX)
            .map(|number| tokio::spawn(crowd.read(number, Consistency::Strict)))
            .collect();
        crowd.until_waiting("as many wait as may", WAITING_MAX).await;
        let refused = crowd.read(100, Consistency::Strict).await;
        assert!(matches!(refused, Err(CacheError::Overloaded { .. })), "{refused:?}");
        for caller in callers {
            caller.abort();
        }
        crowd.until_waiting("they have left the queue", 0).await;
    }
    let last = tokio::spawn(crowd.read(101, Consistency::Strict));
    crowd.until_waiting("one more waits", 1).await;
    crowd.store.release();
    answered(first.await);
    answered(last.await.expect("task"));
    assert_eq!(crowd.store.loads() - loads, 2, "loads for those who waited");
}

/// Two wait for the same, and one of them goes away.
async fn whoever_stays_is_answered(crowd: Crowd) {
    let first = crowd.occupy().await;
    let mut goes = crowd.read(1, BOUNDED);
    assert!(poll!(&mut goes).is_pending());
    crowd.until_waiting("it waits", 1).await;
    let mut stays = crowd.read(1, BOUNDED);
    assert!(poll!(&mut stays).is_pending());
    drop(goes);
    // Others come and go, so whoever should have left has left.
    let mut other = crowd.read(2, BOUNDED);
    assert!(poll!(&mut other).is_pending());
    crowd.until_waiting("two wait", 2).await;
    drop(other);
    crowd.until_waiting("one is left", 1).await;
    crowd.store.release();
    answered(first.await);
    answered(stays.await);
}

/// Fails when a load stays in the queue for which nobody waits.
#[tokio::test]
async fn a_row_that_nobody_waits_for_leaves_the_queue() {
    whoever_goes_away_makes_room(Crowd::of_rows().await).await;
}

/// Fails when a load stays in the queue for which nobody waits.
#[tokio::test]
async fn a_page_that_nobody_waits_for_leaves_the_queue() {
    whoever_goes_away_makes_room(Crowd::of_pages().await).await;
}

/// Fails when a load leaves the queue with the first of those who wait for it.
#[tokio::test]
async fn a_row_that_somebody_waits_for_stays_in_the_queue() {
    whoever_stays_is_answered(Crowd::of_rows().await).await;
}

/// Fails when a load leaves the queue with the first of those who wait for it.
#[tokio::test]
async fn a_page_that_somebody_waits_for_stays_in_the_queue() {
    whoever_stays_is_answered(Crowd::of_pages().await).await;
}

/// Of the keys that were asked for together only the one is loaded for which somebody else waits.
/// Fails when all or none of them leave, or when a key that was not loaded counts as without a row.
#[tokio::test]
async fn of_many_keys_those_are_loaded_that_somebody_waits_for() {
    let crowd = Crowd::of_rows().await;
    for key in 1..=10 {
        crowd.store.put(key, "a row").await;
    }
    let loaded = crowd.store.keys_loaded();
    let first = crowd.occupy().await;
    let rows = crowd.replica.rows.clone();
    let keys: Vec<u64> = (1..=10).collect();
    let mut all = Box::pin(async { rows.get_many(&keys, BOUNDED).await });
    assert!(poll!(&mut all).is_pending());
    crowd.until_waiting("ten wait", 10).await;
    let mut one = crowd.read(5, BOUNDED);
    assert!(poll!(&mut one).is_pending());
    drop(all);
    crowd.until_waiting("one is left", 1).await;
    crowd.store.release();
    answered(first.await);
    answered(one.await);
    assert_eq!(crowd.store.keys_loaded() - loaded, 2);
    for key in 1..=10 {
        assert_eq!(crowd.replica.get(key).await.as_deref(), Some("a row"), "{key}");
    }
}
