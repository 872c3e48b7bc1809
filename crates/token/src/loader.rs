//! How the cache reads tokens that it does not hold.
//!
//! By the plain statement and not by `PointReads` of the crate `postgres`: the cache has gathered the
//! keys of all callers already, each once, and bounds how many such loads are under way. A second
//! queue would gather nothing more, and each load would wait in both.

use forebay_cache::Loader;
use forebay_model::{Mint, TokenId};
use forebay_proto::token::v1 as pb;

use crate::convert::to_message;
use crate::entity::{TokenById, TokenByMint};
use crate::error::StoreError;
use crate::store::TokenStore;

/// Reads tokens from Postgres, many with one statement.
#[derive(Debug, Clone)]
pub(crate) struct TokenLoader {
    store: TokenStore,
}

impl TokenLoader {
    pub(crate) fn new(store: TokenStore) -> Self {
        Self { store }
    }

    pub(crate) fn store(&self) -> &TokenStore {
        &self.store
    }
}

impl Loader<TokenById> for TokenLoader {
    type Error = StoreError;

    async fn load_many(&self, keys: Vec<TokenId>) -> Result<Vec<(TokenId, pb::Token)>, StoreError> {
        let tokens = self.store.by_ids(&keys).await?;
        Ok(tokens.into_iter().map(|token| (token.id, to_message(token))).collect())
    }
}

impl Loader<TokenByMint> for TokenLoader {
    type Error = StoreError;

    async fn load_many(&self, keys: Vec<Mint>) -> Result<Vec<(Mint, pb::Token)>, StoreError> {
        let tokens = self.store.by_mints(&keys).await?;
        Ok(tokens.into_iter().map(|token| (token.mint, to_message(token))).collect())
    }
}
