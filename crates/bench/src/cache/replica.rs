//! A side of the `cache` bench: one replica of a service with its cache.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::cache::record::Key;
use crate::cache::truth::Truth;
use crate::side::Boxed;

/// Where a replica runs and how large it is.
#[derive(Clone)]
pub struct Site {
    /// Redis, perhaps through a proxy.
    pub redis_url: String,
    /// The rows.
    pub truth: Truth,
    /// Replicas with the same namespace share L2 and hear of each other's writes.
    pub namespace: String,
    /// Entries that L1 holds.
    pub l1_entries: u64,
    /// How long an entry lives, in both levels.
    pub ttl: Duration,
}

impl Site {
    /// The same site behind another address of Redis.
    #[must_use]
    pub fn through(&self, redis_url: &str) -> Self {
        Self { redis_url: redis_url.to_owned(), ..self.clone() }
    }

    /// A key of this site.
    pub fn key(&self, id: uuid::Uuid) -> Key {
        Key::new(&self.namespace, id)
    }
}

/// One replica. Clones are the same replica.
pub trait Replica: Clone + Send + Sync + 'static {
    /// Reads a key through the cache as this side's documentation says; the version of what came.
    fn get(&self, key: &Key) -> impl Future<Output = anyhow::Result<i64>> + Send;

    /// Tells all replicas of a committed change, as this side's documentation says.
    fn invalidate(
        &self,
        key: &Key,
        version: i64,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Reads several keys: with one call if the side has one, else all at once.
    fn get_many(&self, keys: &[Key]) -> impl Future<Output = anyhow::Result<Vec<i64>>> + Send {
        async move { futures_util::future::try_join_all(keys.iter().map(|key| self.get(key))).await }
    }

    /// Microseconds that [`Replica::get_many`] takes; of a side that runs elsewhere, there.
    fn time_many(&self, keys: &[Key]) -> impl Future<Output = anyhow::Result<f64>> + Send {
        async move {
            let asked = Instant::now();
            let found = self.get_many(keys).await?;
            ensure!(found.len() == keys.len(), "{} of {} came", found.len(), keys.len());
            Ok(asked.elapsed().as_secs_f64() * 1e6)
        }
    }
}

/// A replica of any side.
pub type Node = Arc<dyn AnyReplica>;

/// A replica whose futures are boxed, which costs nothing beside a round trip.
pub trait AnyReplica: Send + Sync {
    /// As [`Replica::get`].
    fn get<'a>(&'a self, key: &'a Key) -> Boxed<'a, anyhow::Result<i64>>;
    /// As [`Replica::invalidate`].
    fn invalidate<'a>(&'a self, key: &'a Key, version: i64) -> Boxed<'a, anyhow::Result<()>>;
    /// As [`Replica::get_many`].
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, anyhow::Result<Vec<i64>>>;
    /// As [`Replica::time_many`].
    fn time_many<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, anyhow::Result<f64>>;
}

impl<R: Replica> AnyReplica for R {
    fn get<'a>(&'a self, key: &'a Key) -> Boxed<'a, anyhow::Result<i64>> {
        Box::pin(Replica::get(self, key))
    }

    fn invalidate<'a>(&'a self, key: &'a Key, version: i64) -> Boxed<'a, anyhow::Result<()>> {
        Box::pin(Replica::invalidate(self, key, version))
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, anyhow::Result<Vec<i64>>> {
        Box::pin(Replica::get_many(self, keys))
    }

    fn time_many<'a>(&'a self, keys: &'a [Key]) -> Boxed<'a, anyhow::Result<f64>> {
        Box::pin(Replica::time_many(self, keys))
    }
}
