//! Which tokens the mints of a pool belong to.

use std::time::Duration;

use thiserror::Error;

mod grpc;

pub use grpc::MintResolver;

/// The error below a [`ResolveError`].
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why the token service did not answer.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// It cannot be reached or is overloaded.
    #[error("the token service is unavailable")]
    Unavailable {
        /// When a repetition may succeed.
        retry_after: Duration,
        /// What it or the connection said.
        #[source]
        source: Cause,
    },
    /// The caller's time was over first.
    #[error("the deadline passed before the token service answered")]
    Deadline,
    /// It refused a request that should be right.
    #[error("the token service refused the request")]
    Refused(#[source] Cause),
    /// Its reply makes no sense.
    #[error("the token service gave the token of {mint} a malformed id")]
    Reply {
        /// The mint.
        mint: String,
    },
}
