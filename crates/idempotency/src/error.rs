//! What can go wrong with a request id.

use forebay_postgres::PgError;

/// Why a request could not be claimed or its reply not be kept.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The request id was used for another request: the caller's mistake.
    #[error("the request id belongs to another request")]
    Mismatch,
    /// Postgres gave no answer, or a refusal.
    #[error("read or keep the reply of a request")]
    Store(#[from] PgError),
}
