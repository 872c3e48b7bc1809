//! Why a request failed, from the rows up to the service.

use std::sync::Arc;
use std::time::Duration;

use forebay_cache::CacheError;
use forebay_grpc::fields::FieldViolations;
use forebay_model::{Mint, TokenId};
use forebay_postgres::PgError;
use thiserror::Error;
use uuid::Uuid;

/// Why tokens could not be read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    /// A statement failed.
    #[error("{action}")]
    Query {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: PgError,
    },
    /// A row lacks a column or has one of another type: the schema is not the one we know.
    #[error("read the column {name}")]
    Column {
        /// Name of the column.
        name: &'static str,
        /// Why it could not be read.
        #[source]
        source: PgError,
    },
    /// A row holds a value that this service would have refused.
    #[error("the token {id} has an invalid {column}")]
    Corrupt {
        /// Id of the row.
        id: Uuid,
        /// Name of the column or of the key in its metadata.
        column: &'static str,
    },
}

impl StoreError {
    /// Wraps the failure of a statement that did `action`.
    pub(crate) fn query(action: &'static str) -> impl FnOnce(PgError) -> Self {
        move |source| Self::Query { action, source }
    }
}

/// Why a request failed.
#[derive(Debug, Error)]
pub enum Error {
    /// Fields of the request are bad.
    #[error("the request has invalid fields")]
    Invalid(FieldViolations),
    /// There is no such token.
    #[error("there is no token {name}")]
    NotFound {
        /// The id or the mint that was asked for.
        name: String,
    },
    /// Another token has this mint.
    #[error("there is a token of mint {mint}")]
    MintTaken {
        /// The mint.
        mint: Mint,
    },
    /// A liquidity pool refers to the token.
    #[error("the token {id} is used by a liquidity pool")]
    InUse {
        /// Id of the token.
        id: TokenId,
    },
    /// The token changed since the caller read it.
    #[error("the etag of token {id} is stale")]
    EtagStale {
        /// Id of the token.
        id: TokenId,
    },
    /// An update names another mint than the token has.
    #[error("the mint of token {id} cannot change")]
    MintImmutable {
        /// Id of the token.
        id: TokenId,
    },
    /// The tokens of a batch are too many for one reply.
    #[error("the tokens of the batch have {bytes} bytes")]
    BatchTooLarge {
        /// Encoded bytes of the tokens, as far as they were counted.
        bytes: usize,
    },
    /// The request id came with another request before.
    #[error("the request id was used for another request")]
    RequestIdReused,
    /// The caller's time is over.
    #[error("the deadline passed")]
    Deadline,
    /// The cache could not load tokens; the callers who waited share the cause.
    #[error("load tokens")]
    Load(#[source] Arc<StoreError>),
    /// Too many keys wait to be loaded already.
    #[error("{waiting_keys} keys wait to be loaded already")]
    Overloaded {
        /// Keys that wait.
        waiting_keys: usize,
        /// When those should have been loaded.
        retry_after: Duration,
    },
    /// The store answered with something older than what is known to be committed.
    #[error("the store answered with version {found}, and {known} is known to be committed")]
    Behind {
        /// The version that is known.
        known: i64,
        /// What the store had.
        found: i64,
    },
    /// The caller says that he has seen a version that was never given out.
    #[error("version {version} was never given out, the newest is {newest}")]
    UnknownVersion {
        /// What the caller says.
        version: i64,
        /// The newest version that was given out.
        newest: i64,
    },
    /// The cache's loader panicked.
    #[error("the loader of tokens panicked")]
    LoaderPanicked,
    /// A statement failed.
    #[error("access the store")]
    Store(#[from] StoreError),
    /// The record of requests failed.
    #[error("keep the request")]
    RequestLog(#[source] PgError),
    /// The first reply to a repeated request cannot be read.
    #[error("decode the reply that was kept")]
    KeptReply(#[source] prost::DecodeError),
    /// The answer to the commit of a write was lost.
    #[error("the commit may have happened")]
    OutcomeUnknown {
        /// Whether the request has an id, so that a repetition writes once all the same.
        is_repeatable: bool,
        /// How it was lost.
        #[source]
        source: PgError,
    },
    /// The task that commits a write ended without an answer.
    #[error("the task of the commit failed")]
    CommitTask(#[source] tokio::task::JoinError),
}

impl Error {
    /// What Postgres said, if the request failed because of that.
    pub(crate) fn postgres(&self) -> Option<&PgError> {
        match self {
            Self::Store(StoreError::Query { source, .. })
            | Self::RequestLog(source)
            | Self::OutcomeUnknown { source, .. } => Some(source),
            Self::Invalid(..)
            | Self::NotFound { .. }
            | Self::MintTaken { .. }
            | Self::InUse { .. }
            | Self::EtagStale { .. }
            | Self::MintImmutable { .. }
            | Self::BatchTooLarge { .. }
            | Self::RequestIdReused
            | Self::Deadline
            | Self::Load(..)
            | Self::Overloaded { .. }
            | Self::LoaderPanicked
            | Self::Behind { .. }
            | Self::UnknownVersion { .. }
            | Self::Store(StoreError::Column { .. } | StoreError::Corrupt { .. })
            | Self::KeptReply(..)
            | Self::CommitTask(..) => None,
        }
    }
}

impl From<CacheError<StoreError>> for Error {
    fn from(error: CacheError<StoreError>) -> Self {
        match error {
            CacheError::Load(cause) => Self::Load(cause),
            CacheError::LoaderPanicked => Self::LoaderPanicked,
            CacheError::Deadline => Self::Deadline,
            CacheError::Behind { known, found } => Self::Behind { known, found },
            CacheError::UnknownVersion { version, newest } => {
                Self::UnknownVersion { version, newest }
            }
            CacheError::Overloaded { waiting_keys, retry_after } => {
                Self::Overloaded { waiting_keys, retry_after }
            }
        }
    }
}

impl From<forebay_idempotency::Error> for Error {
    fn from(error: forebay_idempotency::Error) -> Self {
        match error {
            forebay_idempotency::Error::Mismatch => Self::RequestIdReused,
            forebay_idempotency::Error::Store(cause) => Self::RequestLog(cause),
        }
    }
}

impl From<FieldViolations> for Error {
    fn from(violations: FieldViolations) -> Self {
        Self::Invalid(violations)
    }
}
