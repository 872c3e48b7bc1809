//! Our cache, in one place: the rest of the bench knows it as a [`Replica`].

use bytes::Bytes;
use forebay_cache::{
    Cache, ChangedRow, Consistency, DecodeError, Entity, EntityCache, Entry, Loader,
};
use forebay_redis::RedisPool;
use prost::Message as _;
use std::sync::Arc;
use uuid::Uuid;

use crate::cache::record::{Key, Record};
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::{LoadError, SOURCE, Truth};
use crate::pools::settings;

/// What L1 counts for an entry beside its bytes; generous, since it only limits.
const L1_OVERHEAD: u64 = 1_024;

/// How a record is cached.
pub struct Records;

impl Entity for Records {
    type Key = Uuid;
    type Value = Record;

    const NAME: &'static str = "record";
    const SOURCE: &'static str = SOURCE;
    const SCHEMA: u16 = 1;

    fn key_text(key: &Uuid) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<Uuid> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<Uuid> {
        row.id.parse().ok()
    }

    fn version(value: &Record) -> i64 {
        value.version
    }

    fn encode(value: &Record) -> Bytes {
        value.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<Record, DecodeError> {
        Record::decode(bytes).map_err(DecodeError::because)
    }
}

impl Loader<Records> for Truth {
    type Error = LoadError;

    async fn load_many(&self, keys: Vec<Uuid>) -> Result<Vec<(Uuid, Record)>, LoadError> {
        let records = self.load(&keys).await?;
        let with_key = |record: Record| {
            let id = record.id.parse().map_err(|_| LoadError::new("a row without its key"))?;
            Ok((id, record))
        };
        records.into_iter().map(with_key).collect()
    }
}

/// One replica.
#[derive(Clone)]
pub struct Ours {
    /// Keeps its tasks alive.
    _cache: Cache,
    records: EntityCache<Records, Truth>,
}

impl Ours {
    /// Starts it with the default settings but for the size of L1 and the time to live.
    ///
    /// # Errors
    /// When the settings are none.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        let config = settings(&[
            format!("--redis.url={}", site.redis_url),
            format!("--redis.key_prefix={}:", site.namespace),
        ])?;
        let mut cache = config.cache;
        cache.l1_bytes_max = site.l1_entries * L1_OVERHEAD;
        let mut entity = cache.token.clone();
        entity.ttl = site.ttl;
        let cache = Cache::new(&cache, site.truth.postgres(), RedisPool::new(&config.redis)?);
        let records = cache.entity(&entity, site.truth.clone());
        Ok(Self { _cache: cache, records })
    }

    /// The whole entry.
    ///
    /// # Errors
    /// When neither level has it and the loader fails, or there is no such row.
    pub async fn entry(&self, key: &Key) -> anyhow::Result<Arc<Entry<Records>>> {
        let lookup = self.records.get(&key.id, Consistency::default()).await?;
        lookup.value.ok_or_else(|| anyhow::anyhow!("no row {}", key.id))
    }
}

impl Replica for Ours {
    async fn get(&self, key: &Key) -> anyhow::Result<i64> {
        Ok(self.entry(key).await?.value.version)
    }

    async fn invalidate(&self, key: &Key, version: i64) -> anyhow::Result<()> {
        self.records.invalidate(&[(key.id, version)]).await;
        Ok(())
    }

    async fn get_many(&self, keys: &[Key]) -> anyhow::Result<Vec<i64>> {
        let ids: Vec<_> = keys.iter().map(|key| key.id).collect();
        let lookups = self.records.get_many(&ids, Consistency::default()).await?;
        let version = |value: Option<Arc<Entry<Records>>>| {
            value.map(|entry| entry.value.version).ok_or_else(|| anyhow::anyhow!("a row is absent"))
        };
        lookups.into_iter().map(|lookup| version(lookup.value)).collect()
    }
}
