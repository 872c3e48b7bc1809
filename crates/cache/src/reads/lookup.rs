//! What a read asks for and what it gets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Entity;

/// How old an answer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Read the store itself; neither level of the cache is asked.
    Strict,
    /// The answer contains every change that was committed more than this long before the read
    /// began. Longer bounds than `staleness_max` are cut to it.
    Bounded(Duration),
    /// Like `Bounded(staleness_max)`, but if the store fails, an entry filled no longer than
    /// `max_age` ago is served as [`Outcome::Stale`].
    Available {
        /// Oldest entry that may be served when the store fails.
        max_age: Duration,
    },
}

impl Default for Consistency {
    /// One second: [`Consistency::Bounded`].
    fn default() -> Self {
        Self::Bounded(Duration::from_secs(1))
    }
}

/// What a read asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// How old the answer may be.
    pub consistency: Consistency,
    /// The highest version that the caller has seen, of any row; 0 if he does not say. The answer
    /// contains all that he has seen: his own writes, and nothing older than what he has read.
    pub min_version: i64,
}

impl Consistency {
    /// The same, for a caller who has seen this version and nothing higher.
    pub fn after(self, min_version: i64) -> Ask {
        Ask { consistency: self, min_version }
    }
}

impl From<Consistency> for Ask {
    /// Of a caller who does not say what he has seen.
    fn from(consistency: Consistency) -> Self {
        consistency.after(0)
    }
}

/// Where the answer of a read came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The process's own memory held it.
    HitL1,
    /// Redis held it.
    HitL2,
    /// The store was read, and the row exists.
    Loaded,
    /// The process's own memory held "there is no such row".
    NegativeL1,
    /// Redis held "there is no such row".
    NegativeL2,
    /// The store was read, and the row does not exist.
    Absent,
    /// The store failed and an older entry was served instead.
    Stale,
}

impl Outcome {
    /// Whether a level of the cache answered, without a read of the store.
    pub(crate) fn is_hit(self) -> bool {
        match self {
            Self::HitL1 | Self::HitL2 | Self::NegativeL1 | Self::NegativeL2 => true,
            Self::Loaded | Self::Absent | Self::Stale => false,
        }
    }

    /// The outcome as it appears in spans and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HitL1 => "hit_l1",
            Self::HitL2 => "hit_l2",
            Self::Loaded => "loaded",
            Self::NegativeL1 => "negative_l1",
            Self::NegativeL2 => "negative_l2",
            Self::Absent => "absent",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A cached value in both of its forms.
pub struct Entry<E: Entity> {
    /// The decoded value.
    pub value: E::Value,
    /// The same value as [`Entity::encode`] wrote it.
    pub encoded: Bytes,
    /// Version of the row it was read from.
    pub version: i64,
}

impl<E: Entity> fmt::Debug for Entry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("entity", &E::NAME)
            .field("version", &self.version)
            .field("encoded_bytes", &self.encoded.len())
            .finish()
    }
}

/// The stored form of a cached value, for a reply that takes it as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The value as [`Entity::encode`] wrote it.
    pub encoded: Bytes,
    /// Version of the row it was read from.
    pub version: i64,
}

impl<E: Entity> From<&Entry<E>> for Encoded {
    fn from(entry: &Entry<E>) -> Self {
        Self { encoded: entry.encoded.clone(), version: entry.version }
    }
}

/// The answer of a read.
pub struct Lookup<E: Entity> {
    /// The value, or `None` if there is no such row.
    pub value: Option<Arc<Entry<E>>>,
    /// Where the answer came from.
    pub outcome: Outcome,
}

impl<E: Entity> Clone for Lookup<E> {
    fn clone(&self) -> Self {
        Self { value: self.value.as_ref().map(Arc::clone), outcome: self.outcome }
    }
}

impl<E: Entity> fmt::Debug for Lookup<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("value", &self.value)
            .field("outcome", &self.outcome)
            .finish()
    }
}

/// The outcome that all lookups share, for a reader of traces.
pub(crate) fn common_outcome<E: Entity>(lookups: &[Lookup<E>]) -> &'static str {
    match lookups {
        [] => "none",
        [first, rest @ ..] if rest.iter().all(|lookup| lookup.outcome == first.outcome) => {
            first.outcome.as_str()
        }
        _ => "mixed",
    }
}
