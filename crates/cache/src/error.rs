//! Why a read of the cache failed. Redis is never the reason.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// Why a read failed; `L` is the loader's error.
#[derive(Debug, thiserror::Error)]
pub enum CacheError<L: Error + Send + Sync + 'static> {
    /// The store failed. All callers who waited for the same load share the error.
    #[error("the value could not be loaded")]
    Load(#[source] Arc<L>),
    /// The loader panicked; the panic was reported by the panic hook.
    #[error("the loader panicked")]
    LoaderPanicked,
    /// The caller's deadline passed before there was an answer.
    #[error("the deadline passed before the value was loaded")]
    Deadline,
    /// The caller says that he has seen a version that was never given out: it is a mistake, or the
    /// database has lost what it had answered.
    #[error("version {version} was never given out, the newest is {newest}")]
    UnknownVersion {
        /// What the caller says.
        version: i64,
        /// The newest version that was given out.
        newest: i64,
    },
    /// The store answered with something older than what is known to have been committed, also when
    /// it was asked again. It is not cached.
    #[error("the store answered with version {found}, and {known} is known to be committed")]
    Behind {
        /// The version that is known.
        known: i64,
        /// What the store had.
        found: i64,
    },
    /// As many loads as may be are under way, and as many keys as may wait for one do.
    #[error("{waiting_keys} keys wait to be loaded already")]
    Overloaded {
        /// Keys that wait.
        waiting_keys: usize,
        /// When those should have been loaded.
        retry_after: Duration,
    },
}

impl<L: Error + Send + Sync + 'static> Clone for CacheError<L> {
    fn clone(&self) -> Self {
        match self {
            Self::Load(cause) => Self::Load(Arc::clone(cause)),
            Self::LoaderPanicked => Self::LoaderPanicked,
            Self::Deadline => Self::Deadline,
            Self::Behind { known, found } => Self::Behind { known: *known, found: *found },
            Self::UnknownVersion { version, newest } => {
                Self::UnknownVersion { version: *version, newest: *newest }
            }
            Self::Overloaded { waiting_keys, retry_after } => {
                Self::Overloaded { waiting_keys: *waiting_keys, retry_after: *retry_after }
            }
        }
    }
}
