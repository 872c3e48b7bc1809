//! What a list is, how its pages are loaded, and how a page passes for an entity.

use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::entity::Reach;
use crate::{ChangedRow, DecodeError, Entity, Loader, Rows};

/// A way to list a table, in pages.
pub trait List: Send + Sync + 'static {
    /// What identifies a page: filter, order, position and size. Two queries that are equal have the
    /// same page at any moment.
    type Query: Clone + Eq + Hash + Debug + Send + Sync + 'static;
    /// A page.
    type Page: Page;

    /// Name in keys, spans and metrics, such as `token_list`. It must not contain `:`, and neither
    /// two lists nor a list and an entity of one [`Cache`](crate::Cache) may share it.
    const NAME: &'static str;
    /// The table whose changes make pages old, as its triggers name it in the outbox. What else a
    /// page shows must not change.
    const SOURCE: &'static str;
    /// Version of the stored form, as [`Entity::SCHEMA`].
    const SCHEMA: u16;

    /// The query as text; different queries must give different texts.
    fn query_text(query: &Self::Query) -> String;
    /// The query of a text, or `None` if the text is not a query.
    fn parse_query(text: &str) -> Option<Self::Query>;
}

/// A page, which knows how it is stored.
pub trait Page: Sized + Send + Sync + 'static {
    /// The stored form.
    fn encoded(&self) -> &Bytes;
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are no page. The cache treats that as a miss.
    fn decode(encoded: Bytes) -> Result<Self, DecodeError>;
    /// Memory that the page owns besides its stored form, in bytes.
    fn decoded_bytes(&self) -> usize;
}

/// Reads pages from the store that holds the truth: from the server that takes writes, or from one
/// that is known to have followed it to the moment of the call.
pub trait PageLoader<T: List>: Send + Sync + 'static {
    /// Why a load failed.
    type Error: Error + Send + Sync + 'static;

    /// Reads one page.
    ///
    /// The future runs in a task of the cache: it is not cancelled when a caller goes away, because
    /// others may wait for the same page.
    fn load(&self, query: T::Query) -> impl Future<Output = Result<T::Page, Self::Error>> + Send;
}

/// The pages of a list as an entity: a page is an entry that any change of the source makes old.
#[derive(Debug)]
pub struct Pages<T>(PhantomData<fn() -> T>);

impl<T: List> Entity for Pages<T> {
    type Key = T::Query;
    type Value = T::Page;

    const NAME: &'static str = T::NAME;
    const SOURCE: &'static str = T::SOURCE;
    const SCHEMA: u16 = T::SCHEMA;
    const REACH: Reach = Reach::Collection;

    fn key_text(key: &T::Query) -> String {
        T::query_text(key)
    }

    fn parse_key(text: &str) -> Option<T::Query> {
        T::parse_query(text)
    }

    fn key_of(_row: ChangedRow<'_>) -> Option<T::Query> {
        None
    }

    /// Pages are not compared with each other: what tells an old one is the collection.
    fn version(_page: &T::Page) -> i64 {
        0
    }

    fn encode(page: &T::Page) -> Bytes {
        page.encoded().clone()
    }

    fn decode(bytes: Bytes) -> Result<T::Page, DecodeError> {
        T::Page::decode(bytes)
    }

    fn decoded_bytes(page: &T::Page, _encoded: &Bytes) -> usize {
        page.decoded_bytes()
    }
}

/// The loader of pages as that of an entity. Each page has a statement of its own.
#[derive(Debug)]
pub struct Paged<L>(pub(crate) L);

impl<T: List, L: PageLoader<T>> Loader<Pages<T>> for Paged<L> {
    type Error = L::Error;

    async fn load_many(&self, keys: Vec<T::Query>) -> Result<Rows<Pages<T>>, L::Error> {
        let loads = keys.into_iter().map(|query| async {
            let page = self.0.load(query.clone()).await?;
            Ok((query, page))
        });
        try_join_all(loads).await
    }
}
