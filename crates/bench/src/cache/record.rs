//! What is cached: a record of a few hundred bytes, and the key of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of a record's text: with the rest the record is about 300 bytes long.
pub const TEXT_BYTES: usize = 250;

/// A cached value, the same for every side. We and gRPC encode it as protobuf, peers with serde.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Record {
    /// Key of the row.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Version of the row.
    #[prost(int64, tag = "2")]
    pub version: i64,
    /// The rest of the row.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// A key in the forms that sides want it in, made before the clock runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key of the row.
    pub id: Uuid,
    /// The key with the namespace of the side before it, for caches whose keys are text.
    pub text: String,
}

impl Key {
    /// The key of `id` in a namespace.
    pub fn new(namespace: &str, id: Uuid) -> Self {
        Self { id, text: format!("{namespace}:{id}") }
    }
}

/// Keys that nobody has used yet.
pub fn fresh(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::new_v4()).collect()
}
