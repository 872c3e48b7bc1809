//! multi-tier-cache with moka, Redis, and invalidation through Redis Pub/Sub.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use multi_tier_cache::{
    CacheError, CacheManager, CacheStrategy, InvalidationConfig, L1Cache, L2Cache, MokaCacheConfig,
};

use crate::cache::record::{Key, Record};
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::Truth;

/// One replica.
#[derive(Clone)]
pub struct MultiTier {
    cache: Arc<CacheManager>,
    truth: Truth,
    ttl: Duration,
}

impl MultiTier {
    /// Connects.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn start(site: &Site) -> anyhow::Result<Self> {
        let memory = MokaCacheConfig { max_capacity: site.l1_entries, ..Default::default() };
        let l1 = L1Cache::new(memory).context("L1")?;
        let l2 = L2Cache::with_url(&site.redis_url).await.context("L2")?;
        let config = InvalidationConfig {
            channel: format!("{}:invalidate", site.namespace),
            ..InvalidationConfig::default()
        };
        let cache = CacheManager::new_with_invalidation(
            Arc::new(l1),
            Arc::new(l2),
            &site.redis_url,
            config,
        )
        .await
        .context("invalidation")?;
        Ok(Self { cache: Arc::new(cache), truth: site.truth.clone(), ttl: site.ttl })
    }

    /// The whole record.
    ///
    /// # Errors
    /// When neither level has it and the loader fails.
    pub async fn record(&self, key: &Key) -> anyhow::Result<Record> {
        let (truth, id) = (&self.truth, key.id);
        let load = || async move {
            truth.load_one(id).await.map_err(|error| CacheError::InternalError(error.to_string()))
        };
        let strategy = CacheStrategy::Custom(self.ttl);
        Ok(self.cache.get_or_compute_typed(&key.text, strategy, load).await?)
    }
}

impl Replica for MultiTier {
    async fn get(&self, key: &Key) -> anyhow::Result<i64> {
        Ok(self.record(key).await?.version)
    }

    async fn invalidate(&self, key: &Key, _version: i64) -> anyhow::Result<()> {
        Ok(self.cache.invalidate(&key.text).await?)
    }
}
