//! How pages of pools are cached.

use forebay_cache::{Entity, List, PageLoader, StoredPage};
use uuid::Uuid;

use crate::entity::PoolById;
use crate::error::StoreError;
use crate::list::PageQuery;
use crate::loader::PoolLoader;

/// Pages of pools. Beside their own rows they show the mints of their tokens, which never change.
#[derive(Debug)]
pub(crate) struct PoolPages;

/// A query as text: a JSON array, so that whatever a filter holds stays apart.
type Text<'a> = (i64, &'a str, Option<Uuid>, Option<[Uuid; 2]>, Option<&'a str>);
/// The same with texts of its own.
type Parsed = (i64, String, Option<Uuid>, Option<[Uuid; 2]>, Option<String>);

impl List for PoolPages {
    type Query = PageQuery;
    type Page = StoredPage;

    const NAME: &'static str = "pool_list";
    const SOURCE: &'static str = PoolById::SOURCE;
    const SCHEMA: u16 = 1;

    fn query_text(query: &PageQuery) -> String {
        let PageQuery { token_id, pair, dex, after, limit } = query;
        let text: Text<'_> = (*limit, after, *token_id, *pair, dex.as_deref());
        serde_json::to_string(&text).expect("numbers, ids and texts are JSON")
    }

    fn parse_query(text: &str) -> Option<PageQuery> {
        let (limit, after, token_id, pair, dex): Parsed = serde_json::from_str(text).ok()?;
        Some(PageQuery { token_id, pair, dex, after, limit })
    }
}

impl PageLoader<PoolPages> for PoolLoader {
    type Error = StoreError;

    async fn load(&self, query: PageQuery) -> Result<StoredPage, StoreError> {
        let rows = self.store().list(&query).await?;
        Ok(query.page(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_survives_as_text() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let query = |token_id, pair, dex: Option<&str>, after: &str| PageQuery {
            token_id,
            pair,
            dex: dex.map(str::to_owned),
            after: after.to_owned(),
            limit: 51,
        };
        let queries = [
            query(None, None, None, ""),
            query(None, None, Some("-"), ""),
            query(None, None, Some(""), ""),
            query(None, None, Some("orca\",\"x"), "abc"),
            query(None, None, Some("orca, [null] \u{e4}\n"), "abc"),
            query(None, None, Some("orca"), "abc\",null"),
            query(Some(one), None, None, "abc"),
            query(None, Some([one, two]), None, "abc"),
            query(Some(two), Some([one, two]), Some("orca"), ""),
        ];
        for (at, query) in queries.iter().enumerate() {
            let text = PoolPages::query_text(query);
            assert_eq!(PoolPages::parse_query(&text).as_ref(), Some(query), "{text}");
            let same = queries.iter().position(|other| PoolPages::query_text(other) == text);
            assert_eq!(same, Some(at), "two queries have the text {text}");
        }
        assert_eq!(PoolPages::parse_query("[51,\"\"]"), None);
    }
}
