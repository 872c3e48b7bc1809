//! How pages of pools are cached.

use bytes::Bytes;
use forebay_cache::{DecodeError, Entity, List, PageLoader};
use forebay_grpc::stored_page::StoredPage;
use uuid::Uuid;

use crate::entity::PoolById;
use crate::error::StoreError;
use crate::list::PageQuery;
use crate::loader::PoolLoader;

/// In the place of a filter that is not set.
const NONE: &str = "-";

/// Pages of pools. Beside their own rows they show the mints of their tokens, which never change.
#[derive(Debug)]
pub(crate) struct PoolPages;

impl List for PoolPages {
    type Query = PageQuery;
    type Page = StoredPage;

    const NAME: &'static str = "pool_list";
    const SOURCE: &'static str = PoolById::SOURCE;
    const SCHEMA: u16 = 1;

    /// `limit after token pair dex`: none of them has a space.
    fn query_text(query: &PageQuery) -> String {
        let PageQuery { token_id, pair, dex, after, limit } = query;
        let after = if after.is_empty() { NONE } else { after };
        let token = token_id.map_or_else(|| NONE.to_owned(), |id| id.to_string());
        let pair = pair.map_or_else(|| NONE.to_owned(), |[one, two]| format!("{one},{two}"));
        // An exchange may be called `-`, so nothing stands for none.
        let dex = dex.as_ref().map_or_else(String::new, |dex| format!(" {dex}"));
        format!("{limit} {after} {token} {pair}{dex}")
    }

    fn parse_query(text: &str) -> Option<PageQuery> {
        let parts: Vec<_> = text.split(' ').collect();
        let (limit, after, token, pair, dex) = match parts.as_slice() {
            [limit, after, token, pair] => (limit, after, token, pair, None),
            [limit, after, token, pair, dex] => (limit, after, token, pair, Some(*dex)),
            _ => return None,
        };
        let id = |text: &str| -> Option<Uuid> { text.parse().ok() };
        let token_id = if *token == NONE { None } else { Some(id(token)?) };
        let pair = if *pair == NONE {
            None
        } else {
            let (one, two) = pair.split_once(',')?;
            Some([id(one)?, id(two)?])
        };
        let after = if *after == NONE { String::new() } else { (*after).to_owned() };
        let dex = dex.map(str::to_owned);
        Some(PageQuery { token_id, pair, dex, after, limit: limit.parse().ok()? })
    }

    fn encode(page: &StoredPage) -> Bytes {
        page.encoded().clone()
    }

    fn decode(bytes: Bytes) -> Result<StoredPage, DecodeError> {
        StoredPage::decode(bytes).map_err(DecodeError::because)
    }

    fn decoded_bytes(page: &StoredPage) -> usize {
        page.overhead_bytes()
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
        assert_eq!(PoolPages::parse_query("51 - -"), None);
    }
}
