//! hitbox: a cached function over moka composed with Redis.

use anyhow::Context as _;
use hitbox::backend::Backend as _;
use hitbox::concurrency::BroadcastConcurrencyManager;
use hitbox::offload::OffloadManager;
use hitbox::policy::{ConcurrencyLimit, PolicyConfig};
use hitbox_backend::CompositionBackend;
use hitbox_backend::composition::Compose as _;
use hitbox_backend::composition::policy::RefillPolicy;
use hitbox_backend::format::BincodeFormat;
use hitbox_core::CacheKey;
use hitbox_fn::{Cache, CacheableResponse, cached};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use serde::{Deserialize, Serialize};

use crate::cache::record::{Key, Record};
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::{LoadError, Truth};

/// The record as this cache wants its answers: a type with its derive.
#[derive(Clone, Debug, Serialize, Deserialize, CacheableResponse)]
pub struct Answer {
    record: Record,
}

type Answered = Result<Answer, LoadError>;
type Both = CompositionBackend<MokaBackend<BincodeFormat>, RedisBackend, OffloadManager>;

#[cached(prefix = "record", skip(truth, id))]
async fn record(key: String, truth: Truth, id: uuid::Uuid) -> Result<Answer, LoadError> {
    // The macro makes the key of the cache from it.
    drop(key);
    Ok(Answer { record: truth.load_one(id).await? })
}

/// One replica.
#[derive(Clone)]
pub struct Hitbox {
    cache: Cache<Both, BroadcastConcurrencyManager<Answered>>,
    truth: Truth,
}

impl Hitbox {
    /// Builds it; Redis is connected at the first use.
    ///
    /// # Errors
    /// When the address of Redis is none.
    pub fn start(site: &Site) -> anyhow::Result<Self> {
        let moka =
            MokaBackend::builder().max_entries(site.l1_entries).value_format(BincodeFormat).build();
        let redis = RedisBackend::builder()
            .connection(ConnectionMode::single(site.redis_url.as_str()))
            .build()?;
        let both =
            moka.compose(redis, OffloadManager::with_defaults()).refill(RefillPolicy::Always);
        let one = ConcurrencyLimit::new(1).context("one is in the range")?;
        let policy = PolicyConfig::builder().ttl(site.ttl).concurrency(one).build();
        let cache = Cache::builder()
            .backend(both)
            .policy(policy)
            .concurrency_manager(BroadcastConcurrencyManager::<Answered>::new())
            .build();
        Ok(Self { cache, truth: site.truth.clone() })
    }

    /// The whole record.
    ///
    /// # Errors
    /// When neither level has it and the loader fails.
    pub async fn record(&self, key: &Key) -> anyhow::Result<Record> {
        let call = record(key.text.clone(), self.truth.clone(), key.id);
        Ok(call.cache(&self.cache).await?.record)
    }
}

impl Replica for Hitbox {
    async fn get(&self, key: &Key) -> anyhow::Result<i64> {
        Ok(self.record(key).await?.version)
    }

    /// It has no bus: this replica and Redis forget, the other replicas keep what they have.
    async fn invalidate(&self, key: &Key, _version: i64) -> anyhow::Result<()> {
        let key = CacheKey::from_slice(&[("fn", Some("record")), ("key", Some(&key.text))]);
        let removed = self.cache.backend().remove(&key).await;
        removed.map(|_| ()).map_err(|error| anyhow::anyhow!("{error}"))
    }
}
