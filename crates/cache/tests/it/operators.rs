//! What an operator sees and does.

use std::convert::Infallible;

use bytes::Bytes;
use forebay_cache::{
    ChangedRow, DecodeError, Entity, InspectError, L2State, Loader, Outcome, Rows,
};

use crate::store::Store;
use crate::{BOUNDED, HOUR, entity_config, eventually, replicas};

/// An entity beside the rows: every number is its own value.
struct Number;

impl Entity for Number {
    type Key = u64;
    type Value = u64;
    const NAME: &'static str = "number";
    const SOURCE: &'static str = "number";
    const SCHEMA: u16 = 1;

    fn key_text(key: &u64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<u64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        row.key.parse().ok()
    }

    fn version(_number: &u64) -> i64 {
        1
    }

    fn encode(number: &u64) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    fn decode(bytes: Bytes) -> Result<u64, DecodeError> {
        bytes.as_ref().try_into().map(u64::from_be_bytes).map_err(DecodeError::because)
    }
}

impl Loader<Number> for Number {
    type Error = Infallible;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Rows<Number>, Infallible> {
        Ok(keys.into_iter().map(|key| (key, key)).collect())
    }
}

#[tokio::test]
async fn an_entry_can_be_looked_at() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a] = replicas(&store).await;
    let nothing = a.cache.inspect("row", "1").await.expect("inspect");
    assert_eq!((nothing.l1, nothing.l2), (None, None));
    a.get(1).await;
    a.l2_version(1, version).await;
    let both = a.cache.inspect("row", "1").await.expect("inspect");
    for level in [both.l1.expect("l1"), both.l2.expect("l2")] {
        assert_eq!((level.version, level.negative), (version, false));
        assert_eq!(level.size_bytes, format!("{version} one").len());
        assert!(level.age.expect("known") < HOUR);
        assert!(level.time_to_live.expect("known") <= HOUR);
    }
}

/// Fails if an entry is only dropped here, or comes back from Redis.
#[tokio::test]
async fn an_evicted_entry_is_gone_everywhere() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a, b] = replicas(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    b.get(1).await;
    a.cache.evict("row", "1").await.expect("evict");
    let gone = a.cache.inspect("row", "1").await.expect("inspect");
    assert_eq!((gone.l1, gone.l2), (None, None));
    eventually("it is gone elsewhere", async || {
        b.cache.inspect("row", "1").await.expect("inspect").l1.is_none()
    })
    .await;
    assert_eq!(a.outcome(1).await, "loaded");
    a.l2_version(1, version).await;
}

#[tokio::test]
async fn what_does_not_exist_is_told() {
    let store = Store::new().await;
    let [a] = replicas(&store).await;
    let unknown = a.cache.inspect("column", "1").await;
    assert!(
        matches!(&unknown, Err(InspectError::UnknownEntity { known }) if known == &["row"]),
        "{unknown:?}"
    );
    assert!(matches!(a.cache.evict("row", "one").await, Err(InspectError::NotAKey)));
}

/// Fails if a level, a replica or a key is left out, or if more than the entity is dropped.
#[tokio::test]
async fn a_cleared_entity_is_gone_everywhere_and_others_stay() {
    const KEYS: u64 = 1_200;
    let store = Store::new().await;
    for key in 0..KEYS {
        store.put(key, "row").await;
    }
    let [a, b] = replicas(&store).await;
    let numbers = a.cache.entity(&entity_config(), Number);
    eventually("the number is in redis", async || {
        // A new entity is not trusted, and not filled, before Redis was asked what it missed.
        a.cache.evict("number", "7").await.expect("evict");
        numbers.get(&7, BOUNDED).await.expect("a number");
        let l2 = a.cache.inspect("number", "7").await.expect("inspect").l2;
        l2.is_some_and(|l2| !l2.negative)
    })
    .await;
    let keys: Vec<_> = (0..KEYS).collect();
    for replica in [&a, &b] {
        replica.rows.get_many(&keys, BOUNDED).await.expect("rows");
    }
    eventually("all are in redis", async || {
        let mut live = 0;
        for key in [0, KEYS / 2, KEYS - 1] {
            let inspected = a.cache.inspect("row", &key.to_string()).await.expect("inspect");
            live += u64::from(inspected.l2.is_some_and(|l2| !l2.negative));
        }
        live == 3
    })
    .await;
    let cleared = a.cache.clear(Some("row")).await.expect("an entity");
    // The tail may still bring the last rows that were put, and take them out of L1 again.
    assert!(cleared.confirmed && cleared.l1_entries > KEYS / 2, "{cleared:?}");
    let mut dropped = 0;
    for key in 0..KEYS {
        let gone = a.cache.inspect("row", &key.to_string()).await.expect("inspect");
        assert_eq!(gone.l1, None, "{key}");
        dropped += u64::from(gone.l2.is_none_or(|l2| l2.negative));
    }
    eventually("it is gone elsewhere", async || {
        b.cache.inspect("row", "5").await.expect("inspect").l1.is_none()
    })
    .await;
    let number = a.cache.inspect("number", "7").await.expect("inspect");
    assert!(number.l1.is_some() && number.l2.is_some(), "{number:?}");
    assert_eq!((dropped, a.outcome(5).await), (KEYS, "loaded"));
    let unknown = a.cache.clear(Some("nosuch")).await;
    assert!(matches!(&unknown, Err(InspectError::UnknownEntity { .. })), "{unknown:?}");
}

/// Fails if clearing everything leaves an entry trusted in either level of any replica.
#[tokio::test]
async fn everything_cleared_is_loaded_again() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a, b] = replicas(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    b.get(1).await;
    let before = a.cache.stats();
    assert_eq!(before.l2_state, L2State::Trusted);
    let cleared = a.cache.clear(None).await.expect("everything");
    assert!(cleared.confirmed && cleared.l1_entries >= 1, "{cleared:?}");
    // The store has no version newer, so only a read of it can bring this.
    assert_eq!(a.outcome(1).await, "loaded");
    let loads = store.loads();
    eventually("the other replica reads again", async || {
        b.outcome(1).await;
        store.loads() > loads || b.cache.stats().l2_epoch != before.l2_epoch
    })
    .await;
    eventually("redis is used again", async || a.cache.stats().l2_state == L2State::Trusted).await;
    a.cache.evict("row", "1").await.expect("evict");
    a.outcome(1).await;
    assert_ne!(a.cache.stats().l2_epoch, before.l2_epoch);
}

/// Fails if an operator is shown an entry of the old epoch until this process trusts the new one.
#[tokio::test]
async fn what_is_cleared_is_gone_as_soon_as_that_is_confirmed() {
    const ROUNDS: usize = 50;
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a] = replicas(&store).await;
    for round in 0..ROUNDS {
        eventually("the row is in redis", async || {
            // Not filled before L2 is trusted again.
            a.cache.evict("row", "1").await.expect("evict");
            a.get(1).await;
            let inspected = a.cache.inspect("row", "1").await.expect("inspect");
            inspected.l2.is_some_and(|l2| l2.version == version)
        })
        .await;
        eventually("redis has confirmed", async || {
            a.cache.clear(Some("row")).await.expect("an entity").confirmed
        })
        .await;
        let gone = a.cache.inspect("row", "1").await.expect("inspect");
        let is_shown = gone.l2.is_some_and(|l2| !l2.negative);
        assert!(gone.l1.is_none() && !is_shown, "shown though cleared, round {round}: {gone:?}");
    }
}

/// Fails if a read, an entry or a fill is not counted where an operator looks.
#[tokio::test]
async fn the_state_is_told() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let [a] = replicas(&store).await;
    let reads = |outcome: Outcome| {
        let entity = a.cache.stats().entities.swap_remove(0);
        entity.outcomes.into_iter().find(|(known, _)| *known == outcome).expect("all are there").1
    };
    let (loaded, hits) = (reads(Outcome::Loaded), reads(Outcome::HitL1));
    let before = a.cache.stats().entities[0].clone();
    a.get(1).await;
    a.get(1).await;
    assert_eq!((reads(Outcome::Loaded) - loaded, reads(Outcome::HitL1) - hits), (1, 1));
    a.l2_version(1, version).await;
    let stats = a.cache.stats();
    let entity = &stats.entities[0];
    assert_eq!(entity.entity, "row");
    assert_eq!(entity.l1_entries, before.l1_entries + 1);
    assert!(entity.l1_bytes > before.l1_bytes + 150, "{entity:?}");
    let stored = entity.fills.iter().find(|(result, _)| *result == "stored").expect("a fill").1;
    assert!(stored >= 2, "the probe and this: {entity:?}");
    assert_eq!((stats.pending, stats.l2_breaker), (0, "closed"));
    assert_eq!(stats.l2_epoch.expect("read").len(), 16);
    a.rows.invalidate(&[(1, version + 1)]).await;
    eventually("it is counted no more", async || {
        a.cache.stats().entities[0].l1_entries == before.l1_entries
    })
    .await;
}
