//! What the token service does, apart from how it is asked.

use std::sync::Arc;

use bytes::Bytes;
use forebay_cache::{Cache, Encoded, Entity, EntityCache, Entry, ListCache, Loader};
use forebay_config::{EntityCacheConfig, Secret};
use forebay_grpc::page::PageTokens;
use forebay_grpc::seen_version;
use forebay_idempotency::{self as idempotency, Begun, RequestKey};
use forebay_model::{Mint, Token, TokenId, Version};
use forebay_pooling::Deadline;
use forebay_postgres::{PgError, PgPool, PgTransaction};
use forebay_proto::token::v1 as pb;
use opentelemetry::trace::FutureExt as _;
use prost::Message as _;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::convert::to_message;
use crate::entity::{TokenById, TokenByMint};
use crate::error::{Error, StoreError};
use crate::list::{PAGE_BYTES_MAX, PageRequest};
use crate::loader::TokenLoader;
use crate::pages::TokenPages;
use crate::store::{self, TokenStore};
use crate::validate::{Batch, Creation, Deletion, Update};

/// The token service: give it to [`server`](crate::server). Clones share everything.
#[derive(Debug, Clone)]
pub struct TokenService {
    store: TokenStore,
    by_id: EntityCache<TokenById, TokenLoader>,
    by_mint: EntityCache<TokenByMint, TokenLoader>,
    pages: ListCache<TokenPages, TokenLoader>,
    page_tokens: PageTokens,
    /// Commits that have begun, with the invalidations that follow them.
    commits: TaskTracker,
}

impl TokenService {
    /// A service over these stores. Nothing is connected yet.
    ///
    /// `page_token_key` signs page tokens; replicas must share it.
    pub fn new(
        postgres: PgPool,
        cache: &Cache,
        entries: &EntityCacheConfig,
        page_token_key: &Secret,
    ) -> Self {
        let store = TokenStore::new(postgres);
        let loader = TokenLoader::new(store.clone());
        Self {
            by_id: cache.entity(entries, loader.clone()),
            by_mint: cache.entity(entries, loader.clone()),
            pages: cache.list(loader),
            store,
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

    pub(crate) async fn get(&self, id: TokenId) -> Result<Arc<Entry<TokenById>>, Error> {
        let found = self.by_id.get(&id, self.by_id.consistency().after(seen_version())).await?;
        found.value.ok_or_else(|| Error::NotFound { name: id.to_string() })
    }

    pub(crate) async fn lookup(&self, mint: Mint) -> Result<Arc<Entry<TokenByMint>>, Error> {
        let found =
            self.by_mint.get(&mint, self.by_mint.consistency().after(seen_version())).await?;
        found.value.ok_or_else(|| Error::NotFound { name: mint.to_string() })
    }

    /// The encoded tokens of a batch in its order, ids first; `None` where there is none.
    pub(crate) async fn batch(&self, batch: &Batch) -> Result<Vec<Option<Encoded>>, Error> {
        let (by_id, by_mint) =
            tokio::try_join!(many(&self.by_id, &batch.ids), many(&self.by_mint, &batch.mints))?;
        check_batch_bytes(by_id.bytes + by_mint.bytes)?;
        Ok(by_id.tokens.into_iter().chain(by_mint.tokens).collect())
    }

    /// One page of encoded tokens and the name of the next one.
    pub(crate) async fn list(
        &self,
        request: pb::ListTokensRequest,
    ) -> Result<(Vec<Bytes>, String), Error> {
        let request = PageRequest::new(request, &self.page_tokens)?;
        let found =
            self.pages.page(&request.query, self.pages.consistency().after(seen_version())).await?;
        let page = &found.page.value;
        Ok((page.items().to_vec(), request.next_page_token(page, &self.page_tokens)))
    }

    pub(crate) async fn create(
        &self,
        creation: &Creation,
        request: Option<&RequestKey>,
    ) -> Result<pb::Token, Error> {
        self.store.repeat(request, || self.try_create(creation, request)).await
    }

    async fn try_create(
        &self,
        creation: &Creation,
        request: Option<&RequestKey>,
    ) -> Result<pb::Token, Error> {
        let mint = creation.mint;
        let mut tx = self.store.begin().await?;
        if let Some(reply) = self.kept_reply(&mut tx, request).await? {
            return Ok(reply);
        }
        let inserted = store::insert(&mut tx, TokenId::new(), mint, creation.facts.clone()).await;
        let token = inserted.map_err(|error| match error {
            StoreError::Query { source: PgError::UniqueViolation { .. }, .. } => {
                Error::MintTaken { mint }
            }
            other => Error::Store(other),
        })?;
        self.commit(tx, request, to_message(token)).await
    }

    pub(crate) async fn update(
        &self,
        update: &Update,
        request: Option<&RequestKey>,
    ) -> Result<pb::Token, Error> {
        self.store.repeat(request, || self.try_update(update, request)).await
    }

    async fn try_update(
        &self,
        update: &Update,
        request: Option<&RequestKey>,
    ) -> Result<pb::Token, Error> {
        let id = update.id;
        let mut tx = self.store.begin().await?;
        if let Some(reply) = self.kept_reply(&mut tx, request).await? {
            return Ok(reply);
        }
        let token = locked(&mut tx, id, update.etag).await?;
        if update.mint.is_some_and(|mint| mint != token.mint) {
            return Err(Error::MintImmutable { id });
        }
        let token = if update.change.is_empty() {
            token
        } else {
            store::update(&mut tx, id, token.mint, update.change.clone().apply(token.facts)).await?
        };
        self.commit(tx, request, to_message(token)).await
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
        if let Some(token) = self.kept_reply(&mut tx, request).await? {
            return Ok(token.version);
        }
        let token = locked(&mut tx, id, deletion.etag).await?;
        let tombstone = store::delete(&mut tx, id).await.map_err(|error| match error {
            StoreError::Query { source: PgError::ForeignKeyViolation { .. }, .. } => {
                Error::InUse { id }
            }
            other => Error::Store(other),
        })?;
        // What is kept of a deletion names both keys and the version to invalidate.
        let token = to_message(Token { version: tombstone, ..token });
        Ok(self.commit(tx, request, token).await?.version)
    }

    /// The first reply to a repeated request.
    async fn kept_reply(
        &self,
        tx: &mut PgTransaction,
        request: Option<&RequestKey>,
    ) -> Result<Option<pb::Token>, Error> {
        let Some(request) = request else {
            return Ok(None);
        };
        match idempotency::begin(tx, request).await? {
            Begun::New => Ok(None),
            Begun::Replay(reply) => {
                let token = pb::Token::decode(reply).map_err(Error::KeptReply)?;
                // The process that wrote it may have died before it could tell the caches.
                self.invalidate(&token).await;
                Ok(Some(token))
            }
        }
    }

    /// Commits what was done to `token` and tells the caches.
    async fn commit(
        &self,
        mut tx: PgTransaction,
        request: Option<&RequestKey>,
        token: pb::Token,
    ) -> Result<pb::Token, Error> {
        if let Some(request) = request {
            let reply = token.encode_to_vec();
            idempotency::finish(&mut tx, request, &reply).await?;
        }
        let is_repeatable = request.is_some();
        let service = self.clone();
        let commit = async move {
            let committed = tx.commit().await;
            // When the answer to the commit was lost the row may be there, and telling the
            // caches of a change that did not happen costs them one load.
            match &committed {
                Ok(()) => service.invalidate(&token).await,
                Err(PgError::UnknownOutcome { .. }) => service.doubt(&token).await,
                Err(_unchanged) => {}
            }
            match committed {
                Ok(()) => Ok(token),
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

    /// Nobody knows whether `token` was committed.
    async fn doubt(&self, token: &pb::Token) {
        if let Ok(id) = token.id.parse() {
            self.by_id.doubt(&[id]).await;
        }
        if let Ok(key) = token.mint.parse() {
            self.by_mint.doubt(&[key]).await;
        }
        self.pages.changed(&[token.version]).await;
    }

    async fn invalidate(&self, token: &pb::Token) {
        // Both texts were written by us, so they always parse.
        let by_id = async {
            if let Ok(id) = token.id.parse() {
                self.by_id.invalidate(&[(id, token.version)]).await;
            }
        };
        let by_mint = async {
            if let Ok(mint) = token.mint.parse() {
                self.by_mint.invalidate(&[(mint, token.version)]).await;
            }
        };
        // At once, so that Redis is told of all three in one step.
        let versions = [token.version];
        tokio::join!(by_id, by_mint, self.pages.changed(&versions));
    }
}

/// A part of a batch.
#[derive(Debug, Default)]
struct Found {
    /// Encoded, in the order of the keys; `None` where there is none.
    tokens: Vec<Option<Encoded>>,
    /// Bytes of the tokens.
    bytes: usize,
}

/// The tokens of `keys`.
async fn many<E: Entity<Value = pb::Token>>(
    cache: &EntityCache<E, TokenLoader>,
    keys: &[E::Key],
) -> Result<Found, Error>
where
    TokenLoader: Loader<E, Error = StoreError>,
{
    // Most batches are of one kind; the other kind should not even appear in a trace.
    if keys.is_empty() {
        return Ok(Found::default());
    }
    let found = cache.get_many(keys, cache.consistency().after(seen_version())).await?;
    let encoded = |entry: Arc<Entry<E>>| Encoded::from(entry.as_ref());
    let tokens: Vec<_> = found.into_iter().map(|found| found.value.map(encoded)).collect();
    let bytes = tokens.iter().flatten().map(|token| Bytes::len(&token.encoded)).sum();
    // Before they are copied: a batch of long tokens can be of hundreds of megabytes.
    check_batch_bytes(bytes)?;
    Ok(Found { tokens, bytes })
}

fn check_batch_bytes(bytes: usize) -> Result<(), Error> {
    if bytes > PAGE_BYTES_MAX {
        return Err(Error::BatchTooLarge { bytes });
    }
    Ok(())
}

/// The token, locked; it must have the version that the caller has seen.
async fn locked(
    tx: &mut PgTransaction,
    id: TokenId,
    seen: Option<Version>,
) -> Result<Token, Error> {
    let Some(token) = store::lock(tx, id).await? else {
        return Err(Error::NotFound { name: id.to_string() });
    };
    if seen.is_some_and(|seen| seen != token.version) {
        return Err(Error::EtagStale { id });
    }
    Ok(token)
}
