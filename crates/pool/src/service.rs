//! What the pool service does, apart from how it is asked.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use forebay_cache::{Cache, Encoded, Entity, EntityCache, Entry, ListCache, Loader};
use forebay_config::{EntityCacheConfig, Secret};
use forebay_grpc::page::PageTokens;
use forebay_grpc::seen_version;
use forebay_idempotency::{self as idempotency, Begun, RequestKey};
use forebay_model::{Pool, PoolAddress, PoolId, Version};
use forebay_pooling::Deadline;
use forebay_postgres::{PgError, PgPool, PgTransaction};
use forebay_proto::pool::v1 as pb;
use opentelemetry::trace::FutureExt as _;
use prost::Message as _;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::convert::to_message;
use crate::entity::{PoolByAddress, PoolById};
use crate::error::{Error, StoreError};
use crate::list::PageRequest;
use crate::loader::PoolLoader;
use crate::pages::PoolPages;
use crate::resolve::MintResolver;
use crate::store::{self, PoolStore};
use crate::validate::{Batch, Creation, Deletion, Update};

/// The pool service: give it to [`server`](crate::server). Clones share everything.
#[derive(Debug, Clone)]
pub struct PoolService {
    store: PoolStore,
    by_id: EntityCache<PoolById, PoolLoader>,
    by_address: EntityCache<PoolByAddress, PoolLoader>,
    pages: ListCache<PoolPages, PoolLoader>,
    mints: MintResolver,
    page_tokens: PageTokens,
    /// Commits that have begun, with the invalidations that follow them.
    commits: TaskTracker,
}

impl PoolService {
    /// A service over these stores. Nothing is connected yet.
    ///
    /// `page_token_key` signs page tokens; replicas must share it.
    pub fn new(
        postgres: PgPool,
        cache: &Cache,
        entries: &EntityCacheConfig,
        mints: MintResolver,
        page_token_key: &Secret,
    ) -> Self {
        let store = PoolStore::new(postgres);
        let loader = PoolLoader::new(store.clone());
        Self {
            by_id: cache.entity(entries, loader.clone()),
            by_address: cache.entity(entries, loader.clone()),
            pages: cache.list(loader),
            store,
            mints,
            page_tokens: PageTokens::new(page_token_key),
            commits: TaskTracker::new(),
        }
    }

    /// Waits until every commit has ended and the caches have heard of it, or until `deadline`;
    /// whether they have. To be called after the last request and before
    /// [`Cache::drain`](forebay_cache::Cache::drain), which then knows of all changes.
    pub async fn drain(&self, deadline: Deadline) -> bool {
        self.commits.close();
        let ended = tokio::time::timeout_at(deadline.instant(), self.commits.wait()).await.is_ok();
        if !ended {
            tracing::warn!(
                commits = self.commits.len(),
                "the process ends in the middle of commits"
            );
        }
        ended
    }

    pub(crate) async fn get(&self, id: PoolId) -> Result<Arc<Entry<PoolById>>, Error> {
        let found = self.by_id.get(&id, self.by_id.consistency().after(seen_version())).await?;
        found.value.ok_or_else(|| Error::NotFound { name: id.to_string() })
    }

    pub(crate) async fn lookup(
        &self,
        address: PoolAddress,
    ) -> Result<Arc<Entry<PoolByAddress>>, Error> {
        let found = self
            .by_address
            .get(&address, self.by_address.consistency().after(seen_version()))
            .await?;
        found.value.ok_or_else(|| Error::NotFound { name: address.to_string() })
    }

    /// The encoded pools of a batch in its order, ids first; `None` where there is none.
    pub(crate) async fn batch(&self, batch: &Batch) -> Result<Vec<Option<Encoded>>, Error> {
        let (by_id, by_address) = tokio::try_join!(
            many(&self.by_id, &batch.ids),
            many(&self.by_address, &batch.addresses)
        )?;
        Ok(by_id.into_iter().chain(by_address).collect())
    }

    /// One page of encoded pools and the name of the next one.
    pub(crate) async fn list(
        &self,
        request: pb::ListPoolsRequest,
    ) -> Result<(Vec<Bytes>, String), Error> {
        let request = PageRequest::new(request, &self.page_tokens)?;
        let ids = self.mints.resolve(&request.mints()).await?;
        let Some(query) = request.resolved(&ids) else {
            return Ok((Vec::new(), String::new()));
        };
        let found = self.pages.page(&query, self.pages.consistency().after(seen_version())).await?;
        let page = &found.page.value;
        Ok((page.items().to_vec(), request.next_page_token(page, &self.page_tokens)))
    }

    pub(crate) async fn create(
        &self,
        creation: &Creation,
        request: Option<&RequestKey>,
    ) -> Result<pb::Pool, Error> {
        // A repeated request gets its first reply whatever has become of its tokens since. The
        // transaction ends before the token service is asked: a peer's slowness must not hold
        // a connection.
        if let Some(reply) = self.store.repeat(request, || self.reply_before(request)).await? {
            return Ok(reply);
        }
        let pool = self.with_tokens(creation).await?;
        self.store.repeat(request, || self.try_create(&pool, request)).await
    }

    async fn reply_before(&self, request: Option<&RequestKey>) -> Result<Option<pb::Pool>, Error> {
        if request.is_none() {
            return Ok(None);
        }
        let mut tx = self.store.begin().await?;
        self.kept_reply(&mut tx, request).await
    }

    /// The pool to create, with the ids of its tokens.
    async fn with_tokens(&self, creation: &Creation) -> Result<Pool, Error> {
        let Creation { base_mint, quote_mint, .. } = *creation;
        let ids = self.mints.resolve(&[base_mint, quote_mint]).await?;
        let (Some(base_token_id), Some(quote_token_id)) =
            (ids.get(&base_mint), ids.get(&quote_mint))
        else {
            let fields = [("pool.base_mint", base_mint), ("pool.quote_mint", quote_mint)];
            let unknown = fields.into_iter().filter(|(_, mint)| !ids.contains_key(mint));
            return Err(Error::UnknownMints { mints: unknown.collect() });
        };
        Ok(Pool {
            id: PoolId::new(),
            pool_address: creation.pool_address,
            dex: creation.dex.clone(),
            base_mint,
            quote_mint,
            base_token_id: *base_token_id,
            quote_token_id: *quote_token_id,
            facts: creation.facts.clone(),
            // The database says these three when it stores the row.
            version: Version::new(0),
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
        })
    }

    async fn try_create(
        &self,
        pool: &Pool,
        request: Option<&RequestKey>,
    ) -> Result<pb::Pool, Error> {
        let mut tx = self.store.begin().await?;
        if let Some(reply) = self.kept_reply(&mut tx, request).await? {
            return Ok(reply);
        }
        let inserted = store::insert(&mut tx, pool.clone()).await;
        let pool = inserted.map_err(|error| refusal(error, pool))?;
        self.commit(tx, request, to_message(pool)).await
    }

    pub(crate) async fn update(
        &self,
        update: &Update,
        request: Option<&RequestKey>,
    ) -> Result<pb::Pool, Error> {
        self.store.repeat(request, || self.try_update(update, request)).await
    }

    async fn try_update(
        &self,
        update: &Update,
        request: Option<&RequestKey>,
    ) -> Result<pb::Pool, Error> {
        let id = update.id;
        let mut tx = self.store.begin().await?;
        if let Some(reply) = self.kept_reply(&mut tx, request).await? {
            return Ok(reply);
        }
        let pool = locked(&mut tx, id, update.etag).await?;
        let fields = update.belief.errors(&pool);
        if !fields.is_empty() {
            return Err(Error::Immutable { id, fields });
        }
        let pool = if update.change.is_empty() {
            pool
        } else {
            let facts = update.change.clone().apply(pool.facts);
            store::update(&mut tx, Pool { facts, ..pool }).await?
        };
        self.commit(tx, request, to_message(pool)).await
    }

    /// The version of the tombstone.
    pub(crate) async fn delete(
        &self,
        deletion: &Deletion,
        request: Option<&RequestKey>,
    ) -> Result<i64, Error> {
        self.store.repeat(request, || self.try_delete(deletion, request)).await
    }

    async fn try_delete(
        &self,
        deletion: &Deletion,
        request: Option<&RequestKey>,
    ) -> Result<i64, Error> {
        let id = deletion.id;
        let mut tx = self.store.begin().await?;
        if let Some(pool) = self.kept_reply(&mut tx, request).await? {
            return Ok(pool.version);
        }
        let pool = locked(&mut tx, id, deletion.etag).await?;
        let tombstone = store::delete(&mut tx, id).await?;
        // What is kept of a deletion names both keys and the version to invalidate.
        let pool = to_message(Pool { version: tombstone, ..pool });
        Ok(self.commit(tx, request, pool).await?.version)
    }

    /// The first reply to a repeated request.
    async fn kept_reply(
        &self,
        tx: &mut PgTransaction,
        request: Option<&RequestKey>,
    ) -> Result<Option<pb::Pool>, Error> {
        let Some(request) = request else {
            return Ok(None);
        };
        match idempotency::begin(tx, request).await? {
            Begun::New => Ok(None),
            Begun::Replay(reply) => {
                let pool = pb::Pool::decode(reply).map_err(Error::KeptReply)?;
                // The process that wrote it may have died before it could tell the caches.
                self.invalidate(&pool).await;
                Ok(Some(pool))
            }
        }
    }

    /// Commits what was done to `pool` and tells the caches.
    async fn commit(
        &self,
        mut tx: PgTransaction,
        request: Option<&RequestKey>,
        pool: pb::Pool,
    ) -> Result<pb::Pool, Error> {
        if let Some(request) = request {
            let reply = pool.encode_to_vec();
            idempotency::finish(&mut tx, request, &reply).await?;
        }
        let is_repeatable = request.is_some();
        let service = self.clone();
        let commit = async move {
            let committed = tx.commit().await;
            // When the answer to the commit was lost the row may be there, and telling the
            // caches of a change that did not happen costs them one load.
            match &committed {
                Ok(()) => service.invalidate(&pool).await,
                Err(PgError::UnknownOutcome { .. }) => service.doubt(&pool).await,
                Err(_unchanged) => {}
            }
            match committed {
                Ok(()) => Ok(pool),
                Err(source @ PgError::UnknownOutcome { .. }) => {
                    Err(Error::OutcomeUnknown { is_repeatable, source })
                }
                Err(source) => Err(StoreError::query("commit")(source).into()),
            }
        };
        // A task of its own: a caller who goes away now must not take the invalidation along.
        let task = self.commits.spawn(commit.with_current_context().in_current_span());
        task.await.map_err(Error::CommitTask)?
    }

    /// Nobody knows whether `pool` was committed.
    async fn doubt(&self, pool: &pb::Pool) {
        if let Ok(id) = pool.id.parse() {
            self.by_id.doubt(&[id]).await;
        }
        if let Ok(key) = pool.pool_address.parse() {
            self.by_address.doubt(&[key]).await;
        }
        self.pages.changed(&[pool.version]).await;
    }

    async fn invalidate(&self, pool: &pb::Pool) {
        // Both texts were written by us, so they always parse.
        let by_id = async {
            if let Ok(id) = pool.id.parse() {
                self.by_id.invalidate(&[(id, pool.version)]).await;
            }
        };
        let by_address = async {
            if let Ok(address) = pool.pool_address.parse() {
                self.by_address.invalidate(&[(address, pool.version)]).await;
            }
        };
        // At once, so that Redis is told of all three in one step.
        let versions = [pool.version];
        tokio::join!(by_id, by_address, self.pages.changed(&versions));
    }
}

/// The encoded pools of `keys` in their order; `None` where there is none.
async fn many<E: Entity<Value = pb::Pool>>(
    cache: &EntityCache<E, PoolLoader>,
    keys: &[E::Key],
) -> Result<Vec<Option<Encoded>>, Error>
where
    PoolLoader: Loader<E, Error = StoreError>,
{
    // Most batches are of one kind; the other kind should not even appear in a trace.
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let found = cache.get_many(keys, cache.consistency().after(seen_version())).await?;
    let encoded = |entry: Arc<Entry<E>>| Encoded::from(entry.as_ref());
    Ok(found.into_iter().map(|found| found.value.map(encoded)).collect())
}

/// The pool, locked; it must have the version that the caller has seen.
async fn locked(tx: &mut PgTransaction, id: PoolId, seen: Option<Version>) -> Result<Pool, Error> {
    let Some(pool) = store::lock(tx, id).await? else {
        return Err(Error::NotFound { name: id.to_string() });
    };
    if seen.is_some_and(|seen| seen != pool.version) {
        return Err(Error::EtagStale { id });
    }
    Ok(pool)
}

/// What it means that the database refuses a new pool.
fn refusal(error: StoreError, pool: &Pool) -> Error {
    let StoreError::Query { source, .. } = &error else {
        return Error::Store(error);
    };
    match source {
        PgError::UniqueViolation { .. } => Error::AddressTaken { address: pool.pool_address },
        // The token was deleted since the token service was asked.
        PgError::ForeignKeyViolation { constraint, .. }
            if constraint == "pools_base_token_fkey" =>
        {
            Error::UnknownMints { mints: vec![("pool.base_mint", pool.base_mint)] }
        }
        PgError::ForeignKeyViolation { constraint, .. }
            if constraint == "pools_quote_token_fkey" =>
        {
            Error::UnknownMints { mints: vec![("pool.quote_mint", pool.quote_mint)] }
        }
        _ => Error::Store(error),
    }
}
