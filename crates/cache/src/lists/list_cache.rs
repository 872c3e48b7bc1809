//! The handle through which one list is read.

use std::fmt::{self, Debug};
use std::sync::Arc;

use super::list::{List, PageLoader, Paged, Pages};
use crate::reads::lookup::Outcome;
use crate::{Ask, CacheError, Consistency, EntityCache, Entry};

/// Longest text of a query whose page is cached, in bytes. Filters are as long as callers like.
const QUERY_BYTES_MAX: usize = 512;

/// Reads the pages of one list through the cache. Clones are cheap and share everything.
///
/// A page is cached like a row, with the same promises: what a read with a bound gives contains every
/// change of the table that was committed before its beginning less the bound, and after
/// [`ListCache::changed`] was called, reads of the same process contain that change. Pages of one
/// listing may be of different moments, as without a cache.
pub struct ListCache<T: List, L: PageLoader<T>>(EntityCache<Pages<T>, Paged<L>>);

/// A page, and where it came from.
pub struct PageLookup<T: List> {
    /// The page in both of its forms.
    pub page: Arc<Entry<Pages<T>>>,
    /// Where it came from.
    pub outcome: Outcome,
}

impl<T: List, L: PageLoader<T>> ListCache<T, L> {
    pub(crate) fn new(pages: EntityCache<Pages<T>, Paged<L>>) -> Self {
        Self(pages)
    }

    /// What a caller gets who asks for nothing else, as [`EntityCache::consistency`].
    pub fn consistency(&self) -> Consistency {
        self.0.consistency()
    }

    /// Reads one page. Callers who want the same page at the same time share one read. Cancel-safe:
    /// the read goes on for the others.
    ///
    /// # Errors
    /// [`CacheError`] if the store had to be read and did not answer.
    pub async fn page(
        &self,
        query: &T::Query,
        ask: impl Into<Ask>,
    ) -> Result<PageLookup<T>, CacheError<L::Error>> {
        let is_long = T::query_text(query).len() > QUERY_BYTES_MAX;
        let ask = ask.into();
        let consistency = if is_long { Consistency::Strict } else { ask.consistency };
        let lookup = self.0.get(query, Ask { consistency, ..ask }).await?;
        // There is always a page, if only an empty one.
        let page = lookup.value.ok_or(CacheError::LoaderPanicked)?;
        Ok(PageLookup { page, outcome: lookup.outcome })
    }

    /// Makes every page old, in all processes. To be called after the commit of changes of the table,
    /// with the versions that were committed.
    ///
    /// This process forgets at once; about the others see [`EntityCache::invalidate`].
    pub async fn changed(&self, versions: &[i64]) {
        self.0.inner().table_changed(versions).await;
    }
}

impl<T: List, L: PageLoader<T>> Clone for ListCache<T, L> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: List, L: PageLoader<T>> Debug for ListCache<T, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListCache").field(&self.0).finish()
    }
}

impl<T: List> Debug for PageLookup<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageLookup")
            .field("page", &self.page)
            .field("outcome", &self.outcome)
            .finish()
    }
}
