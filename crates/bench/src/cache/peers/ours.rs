//! Our cache, in one place: the rest of the bench knows it as a [`Replica`].

use bytes::Bytes;
use forebay_cache::{
    Cache, ChangedRow, Consistency, DecodeError, Entity, EntityCache, Entry, Loader,
};
use forebay_pooling::Deadline;
use forebay_redis::RedisPool;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::cache::record::{Key, Record};
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::{LoadError, SOURCE, Truth};
use crate::pools::settings;

/// What L1 counts for an entry of 300 B, and little more: so many entries are what others hold, too.
const L1_ENTRY_BYTES: u64 = 1_600;

/// How long a replica may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

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
    cache: Cache,
    records: EntityCache<Records, Truth>,
}

impl Ours {
    /// Starts it with the default settings but for the size of L1 and the time to live.
    ///
    /// # Errors
    /// When the settings are none.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        Self::configured(site, &[])
    }

    /// As [`Ours::start`], with other settings as flags.
    ///
    /// # Errors
    /// When the settings are none.
    pub fn configured(site: &Site, flags: &[&str]) -> anyhow::Result<Self> {
        let mut all = vec![
            format!("--redis.url={}", site.redis_url),
            format!("--redis.key_prefix={}:", site.namespace),
        ];
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let config = settings(&all)?;
        let mut cache = config.cache;
        cache.l1_bytes_max = site.l1_entries * L1_ENTRY_BYTES;
        let mut entity = cache.token.clone();
        entity.ttl = site.ttl;
        let cache = Cache::new(&cache, site.truth.postgres(), RedisPool::new(&config.redis)?);
        let records = cache.entity(&entity, site.truth.clone());
        Ok(Self { cache, records })
    }

    /// Waits, as a service does before it says that it serves, for what is read often.
    pub async fn warm_up(&self) {
        self.cache.warm_up().await;
    }

    /// Ends as a service does; whether Redis confirmed what it was told.
    pub async fn end(&self) -> bool {
        self.cache.drain(Deadline::after(PATIENCE)).await
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
