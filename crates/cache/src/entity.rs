//! What a cached entity is and how the rows behind it are loaded.

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;

use bytes::Bytes;

/// A kind of cached value, bound to one key type.
///
/// The binding is what keeps two entities from ever reading each other's entries: the key type,
/// the value type and the name belong together at compile time.
pub trait Entity: Send + Sync + 'static {
    /// Identifies one value.
    type Key: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// The decoded value.
    type Value: Send + Sync + 'static;

    /// Name in keys, spans and metrics, such as `token_by_mint`. It must not contain `:`, and no
    /// two entities of one [`Cache`](crate::Cache) may share it.
    const NAME: &'static str;
    /// The table behind the rows, as its triggers name it in the outbox. Several entities may
    /// cache one table.
    const SOURCE: &'static str;
    /// Version of the encoded form. Raise it when [`decode`](Entity::decode) could not read what
    /// an older [`encode`](Entity::encode) wrote: entries of another schema are misses.
    const SCHEMA: u16;
    /// What a changed row makes old.
    const REACH: Reach = Reach::Key;

    /// The key as text; different keys must give different texts.
    fn key_text(key: &Self::Key) -> String;
    /// The key of a text, or `None` if the text is not a key.
    fn parse_key(text: &str) -> Option<Self::Key>;
    /// The key under which a changed row is cached, or `None` if it cannot be cached.
    fn key_of(row: ChangedRow<'_>) -> Option<Self::Key>;
    /// The version of the row: it grows with each change of the row, also across deletion and
    /// re-creation.
    fn version(value: &Self::Value) -> i64;
    /// The stored form, which is also what a hit hands out without encoding it again.
    fn encode(value: &Self::Value) -> Bytes;
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not a value of this schema. The cache treats that as a miss.
    fn decode(bytes: Bytes) -> Result<Self::Value, DecodeError>;
    /// Memory that a decoded value owns besides its stored form, in bytes: about as much as that is
    /// long, if nothing better is known.
    fn decoded_bytes(_value: &Self::Value, encoded: &Bytes) -> usize {
        encoded.len()
    }
}

/// What a changed row makes old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The entry of its key.
    Key,
    /// Every entry of the entity: each may show the row. Such entities are [lists](crate::List).
    Collection,
}

/// A row that changed, as the outbox names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedRow<'a> {
    /// The row's id.
    pub id: &'a str,
    /// The row's second key, which the table's triggers name.
    pub key: &'a str,
}

/// Reads values from the store that holds the truth.
///
/// It must read from the server that takes writes, or from one that is known to have followed it to
/// the moment of the call.
pub trait Loader<E: Entity>: Send + Sync + 'static {
    /// Why a load failed.
    type Error: Error + Send + Sync + 'static;

    /// Reads the values of `keys` in one go; a key missing from the answer does not exist.
    ///
    /// The future runs in a task of the cache: it is not cancelled when a caller goes away,
    /// because others may wait for the same answer.
    fn load_many(
        &self,
        keys: Vec<E::Key>,
    ) -> impl Future<Output = Result<Rows<E>, Self::Error>> + Send;

    /// As [`load_many`](Loader::load_many), and certainly from the server that takes writes. Asked if
    /// a caller wants the store itself, and if what `load_many` brought is older than what is known to
    /// have been committed.
    fn load_newest(
        &self,
        keys: Vec<E::Key>,
    ) -> impl Future<Output = Result<Rows<E>, Self::Error>> + Send {
        self.load_many(keys)
    }
}

/// The rows that exist, each with its key, in any order.
pub type Rows<E> = Vec<(<E as Entity>::Key, <E as Entity>::Value)>;

/// The stored bytes are not a value of the expected schema.
#[derive(Debug, thiserror::Error)]
#[error("cached bytes cannot be decoded")]
pub struct DecodeError {
    #[source]
    source: Option<Box<dyn Error + Send + Sync + 'static>>,
}

impl DecodeError {
    /// A decode error without a cause of its own.
    pub fn new() -> Self {
        Self { source: None }
    }

    /// A decode error with the decoder's error as its cause.
    pub fn because(source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: Some(Box::new(source)) }
    }
}

impl Default for DecodeError {
    fn default() -> Self {
        Self::new()
    }
}
