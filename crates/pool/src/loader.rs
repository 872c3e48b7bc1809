//! How the cache reads pools that it does not hold.
//!
//! By the plain statement and not by `PointReads` of the crate `postgres`: the cache has gathered the
//! keys of all callers already, each once, and bounds how many such loads are under way. A second
//! queue would gather nothing more, and each load would wait in both.

use forebay_cache::Loader;
use forebay_model::{PoolAddress, PoolId};
use forebay_proto::pool::v1 as pb;

use crate::convert::to_message;
use crate::entity::{PoolByAddress, PoolById};
use crate::error::StoreError;
use crate::store::PoolStore;

/// Reads pools from Postgres, many with one statement.
#[derive(Debug, Clone)]
pub(crate) struct PoolLoader {
    store: PoolStore,
}

impl PoolLoader {
    pub(crate) fn new(store: PoolStore) -> Self {
        Self { store }
    }

    pub(crate) fn store(&self) -> &PoolStore {
        &self.store
    }
}

impl Loader<PoolById> for PoolLoader {
    type Error = StoreError;

    async fn load_many(&self, keys: Vec<PoolId>) -> Result<Vec<(PoolId, pb::Pool)>, StoreError> {
        let pools = self.store.by_ids(&keys).await?;
        Ok(pools.into_iter().map(|pool| (pool.id, to_message(pool))).collect())
    }
}

impl Loader<PoolByAddress> for PoolLoader {
    type Error = StoreError;

    async fn load_many(
        &self,
        keys: Vec<PoolAddress>,
    ) -> Result<Vec<(PoolAddress, pb::Pool)>, StoreError> {
        let pools = self.store.by_addresses(&keys).await?;
        Ok(pools.into_iter().map(|pool| (pool.pool_address, to_message(pool))).collect())
    }
}
