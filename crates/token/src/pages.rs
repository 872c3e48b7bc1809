//! How pages of tokens are cached.

use forebay_cache::{List, PageLoader, StoredPage};

use crate::entity::TokenById;
use crate::error::StoreError;
use crate::list::PageQuery;
use crate::loader::TokenLoader;

/// Pages of tokens. All that a page shows is of the table of tokens.
#[derive(Debug)]
pub(crate) struct TokenPages;

/// A query as text: a JSON array, so that whatever a filter holds stays apart.
type Text<'a> = (i64, &'a str, Option<&'a str>, Option<&'a str>, Option<&'a str>);
/// The same with texts of its own.
type Parsed = (i64, String, Option<String>, Option<String>, Option<String>);

impl List for TokenPages {
    type Query = PageQuery;
    type Page = StoredPage;

    const NAME: &'static str = "token_list";
    const SOURCE: &'static str = <TokenById as forebay_cache::Entity>::SOURCE;
    const SCHEMA: u16 = 1;

    fn query_text(query: &PageQuery) -> String {
        let PageQuery { symbol, tag, name_prefix, after, limit } = query;
        let text: Text<'_> =
            (*limit, after, symbol.as_deref(), tag.as_deref(), name_prefix.as_deref());
        serde_json::to_string(&text).expect("numbers and texts are JSON")
    }

    fn parse_query(text: &str) -> Option<PageQuery> {
        let (limit, after, symbol, tag, name_prefix): Parsed = serde_json::from_str(text).ok()?;
        Some(PageQuery { symbol, tag, name_prefix, after, limit })
    }
}

impl PageLoader<TokenPages> for TokenLoader {
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
        let query = |symbol: Option<&str>, tag: Option<&str>, after: &str| PageQuery {
            symbol: symbol.map(str::to_owned),
            tag: tag.map(str::to_owned),
            name_prefix: None,
            after: after.to_owned(),
            limit: 51,
        };
        let queries = [
            query(None, None, ""),
            query(Some("a"), None, ""),
            query(None, Some("a"), ""),
            query(Some("\",\""), Some("\u{e4} \n"), "x"),
            query(Some("a"), Some("b"), ""),
            query(Some("a\",\"b"), None, ""),
            query(Some("a,b"), None, ""),
            query(Some("null"), None, "[]"),
        ];
        for (at, query) in queries.iter().enumerate() {
            let text = TokenPages::query_text(query);
            assert_eq!(TokenPages::parse_query(&text).as_ref(), Some(query), "{text}");
            let same = queries.iter().position(|other| TokenPages::query_text(other) == text);
            assert_eq!(same, Some(at), "two queries have the text {text}");
        }
        assert_eq!(TokenPages::parse_query("[51]"), None);
    }
}
