//! amalgam-cache with Redis as its L2, its backplane and its locker, as its Redis example has it.

use std::sync::Arc;

use ::amalgam::provider::{
    JsonSerializer, RedisBackplane, RedisDistributedCache, RedisDistributedLocker,
};
use ::amalgam::{Cache, EntryOptions};

use crate::cache::record::{Key, Record};
use crate::cache::replica::{Replica, Site};
use crate::cache::truth::{LoadError, Truth};

/// One replica.
#[derive(Clone)]
pub struct Amalgam {
    cache: Arc<Cache<Arc<Record>>>,
    truth: Truth,
}

impl Amalgam {
    /// Connects; `strict` selects the profile that puts coherence before availability.
    ///
    /// # Errors
    /// When Redis cannot be reached.
    pub async fn start(site: &Site, strict: bool) -> anyhow::Result<Self> {
        let url = site.redis_url.as_str();
        let channel = format!("{}:backplane", site.namespace);
        let builder = Cache::<Arc<Record>>::builder()
            .distributed(Arc::new(RedisDistributedCache::connect(url).await?))
            .serializer(Arc::new(JsonSerializer))
            .backplane(Arc::new(RedisBackplane::connect_with_channel(url, channel).await?))
            .distributed_locker(Arc::new(RedisDistributedLocker::connect(url).await?))
            .default_options(EntryOptions::new(site.ttl))
            .max_capacity(site.l1_entries)
            .wait_for_initial_backplane_subscribe(true);
        let builder = if strict { builder.strict() } else { builder };
        let cache = builder.try_build_ready().await?;
        Ok(Self { cache: Arc::new(cache), truth: site.truth.clone() })
    }

    /// The whole record.
    ///
    /// # Errors
    /// When neither level has it and the loader fails.
    pub async fn record(&self, key: &Key) -> anyhow::Result<Arc<Record>> {
        let (truth, id) = (self.truth.clone(), key.id);
        let load = move |_| async move { Ok::<_, LoadError>(Arc::new(truth.load_one(id).await?)) };
        Ok(self.cache.get_or_set(key.text.as_str(), load).await?)
    }
}

impl Replica for Amalgam {
    async fn get(&self, key: &Key) -> anyhow::Result<i64> {
        Ok(self.record(key).await?.version)
    }

    async fn invalidate(&self, key: &Key, _version: i64) -> anyhow::Result<()> {
        Ok(self.cache.remove(key.text.as_str()).await?)
    }
}
