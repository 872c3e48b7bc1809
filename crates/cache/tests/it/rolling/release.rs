//! One release of a service: what it calls the rows, and how it stores them.

use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{Cache, ChangedRow, DecodeError, Entity, EntityCache, L2State, Loader, Rows};
use forebay_config::CacheConfig;
use forebay_redis::RedisPool;
use forebay_testkit::{redis_config, redis_url};

use crate::store::{Row, Store, StoreDown};
use crate::tail::BOUND;
use crate::{cache_config, entity_config, eventually};

/// Keys that are read and changed.
pub(super) const KEYS: u64 = 400;
/// Far less than the keys need, so that L2 is asked all the time.
const L1_BYTES: u64 = 24 << 10;

/// A row as the next release stores it. The release before would decode it, and misread it.
#[derive(Debug)]
pub(super) struct Next(Row);

impl Entity for Next {
    type Key = u64;
    type Value = Self;
    const NAME: &'static str = Row::NAME;
    const SOURCE: &'static str = Row::SOURCE;
    const SCHEMA: u16 = Row::SCHEMA + 1;

    fn key_text(key: &u64) -> String {
        Row::key_text(key)
    }

    fn parse_key(text: &str) -> Option<u64> {
        Row::parse_key(text)
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        Row::key_of(row)
    }

    fn version(next: &Self) -> i64 {
        next.0.version
    }

    fn encode(next: &Self) -> Bytes {
        Bytes::from(format!("{} next {}", next.0.version, next.0.text))
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let Row { version, text } = Row::decode(bytes)?;
        let text = text.strip_prefix("next ").ok_or_else(DecodeError::new)?.to_owned();
        Ok(Self(Row { version, text }))
    }
}

impl Loader<Next> for Store {
    type Error = StoreDown;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Rows<Next>, StoreDown> {
        let rows = Loader::<Row>::load_many(self, keys).await?;
        Ok(rows.into_iter().map(|(key, row)| (key, Next(row))).collect())
    }
}

/// A row of either release.
pub(super) trait HasRow {
    fn row(&self) -> &Row;
}

impl HasRow for Row {
    fn row(&self) -> &Row {
        self
    }
}

impl HasRow for Next {
    fn row(&self) -> &Row {
        &self.0
    }
}

/// A process of a release.
pub(super) struct Release<E: Entity<Key = u64>>
where
    Store: Loader<E>,
{
    pub(super) rows: EntityCache<E, Store>,
    _cache: Cache,
}

impl<E: Entity<Key = u64, Value: HasRow>> Release<E>
where
    Store: Loader<E>,
{
    /// One whose L2 is in use.
    pub(super) async fn start(prefix: &str, store: &Store) -> Self {
        let redis = RedisPool::new(&redis_config(&redis_url(), prefix)).expect("settings");
        let config = CacheConfig {
            l1_bytes_max: L1_BYTES,
            l1_negative_bytes_max: L1_BYTES / 4,
            staleness_max: BOUND,
            // Nobody is waited for who gave up.
            lease_ttl: Duration::from_millis(200),
            ..cache_config()
        };
        let cache = Cache::new(&config, store.postgres(), redis);
        let rows = cache.entity(&entity_config(), store.clone());
        eventually("redis is trusted", async || cache.stats().l2_state == L2State::Trusted).await;
        Self { rows, _cache: cache }
    }

    /// Version and text of a row, and where they came from.
    pub(super) async fn read(&self, key: u64) -> (Option<(i64, String)>, &'static str) {
        let lookup = self.rows.get(&key, forebay_cache::Consistency::Bounded(BOUND)).await;
        let lookup = lookup.expect("answered");
        let value = lookup.value.as_ref().map(|entry| {
            let row = entry.value.row();
            (row.version, row.text.clone())
        });
        (value, lookup.outcome.as_str())
    }
}
