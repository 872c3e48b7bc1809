//! Lists of tokens: what may be asked and the statement that answers it.

use forebay_cache::StoredPage;
use forebay_grpc::error::FieldViolation;
use forebay_grpc::fields::FieldViolations;
use forebay_grpc::page::{self, Fingerprint, PageTokens};
use forebay_model::{PublicKey, Token};
use forebay_postgres::{Sql, ToSql};
use forebay_proto::token::v1 as pb;
use prost::Message as _;

use crate::convert::to_message;
use crate::store::COLUMNS;

/// The method that page tokens are bound to.
const METHOD: &str = "forebay.token.v1.TokenService/ListTokens";

/// Encoded bytes of the tokens of a page or a batch at most, unless it is a page of one token.
/// Clients refuse a reply of more than 4 MiB by default, and then nobody could read on behind a
/// page of long tokens.
pub(crate) const PAGE_BYTES_MAX: usize = 3 << 20;

/// One page that is asked for.
#[derive(Debug)]
pub(crate) struct PageRequest {
    pub(crate) query: PageQuery,
    fingerprint: Fingerprint,
}

/// One page to read: what identifies it, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageQuery {
    pub(crate) symbol: Option<String>,
    pub(crate) tag: Option<String>,
    pub(crate) name_prefix: Option<String>,
    /// The mint before the first one of the page; empty for the first page.
    pub(crate) after: String,
    /// Rows of the page, and one more: it tells whether a next page exists.
    pub(crate) limit: i64,
}

impl PageRequest {
    /// Checks a request; page tokens are those that `page_tokens` made.
    pub(crate) fn new(
        request: pb::ListTokensRequest,
        page_tokens: &PageTokens,
    ) -> Result<Self, FieldViolations> {
        let mut bad = FieldViolations::default();
        let fingerprint = Fingerprint::new(METHOD, request.filter.as_ref());
        let size = bad.absorb(page::page_size(request.page_size));
        let cursor = bad.absorb(page_tokens.decode(fingerprint, &request.page_token));
        let after = cursor.and_then(|cursor| bad.absorb(after(cursor)));
        let filter = request.filter.unwrap_or_default();
        let symbol = condition(&mut bad, "filter.symbol", filter.symbol);
        let tag = condition(&mut bad, "filter.tag", filter.tag);
        let name_prefix = condition(&mut bad, "filter.name_prefix", filter.name_prefix);
        match (size, after) {
            (Some(size), Some(after)) if bad.is_empty() => {
                let limit = i64::try_from(size + 1).unwrap_or(i64::MAX);
                let query = PageQuery { symbol, tag, name_prefix, after, limit };
                Ok(Self { query, fingerprint })
            }
            _ => Err(bad),
        }
    }

    /// The token of the page after `page`; empty if there is none.
    pub(crate) fn next_page_token(&self, page: &StoredPage, page_tokens: &PageTokens) -> String {
        let next = page.cursor().map(|cursor| page_tokens.encode(self.fingerprint, cursor));
        next.unwrap_or_default()
    }
}

impl PageQuery {
    /// The statement and its parameters. Each combination of filters has a text of its own, so
    /// that each gets a plan of its own; the fragments match the performance indexes.
    pub(crate) fn statement(&self) -> (Sql, Vec<&(dyn ToSql + Sync)>) {
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.after, &self.limit];
        let mut conditions = String::from("mint > $1");
        if let Some(symbol) = &self.symbol {
            parameters.push(symbol);
            conditions += &format!(" AND symbol = ${}", parameters.len());
        }
        if let Some(tag) = &self.tag {
            parameters.push(tag);
            let n = parameters.len();
            conditions += &format!(" AND metadata -> 'tags' @> jsonb_build_array(${n}::text)");
        }
        if let Some(prefix) = &self.name_prefix {
            parameters.push(prefix);
            let n = parameters.len();
            // A range instead of LIKE: a prefix has no wildcards to escape, and the index
            // serves it in a prepared statement too.
            conditions += &format!(
                " AND lower(name) ~>=~ lower(${n}::text) \
                 AND lower(name) ~<~ (lower(${n}::text) || chr(1114111))"
            );
        }
        let text =
            format!("SELECT {COLUMNS} FROM tokens WHERE {conditions} ORDER BY mint LIMIT $2");
        let sql = Sql::owned("SELECT tokens", text);
        // How many rows have a tag or a prefix decides which index is the right one.
        let sql = match (&self.tag, &self.name_prefix) {
            (None, None) => sql,
            (Some(_), _) | (_, Some(_)) => sql.planned_each_time(),
        };
        (sql, parameters)
    }

    /// Cuts `rows` to the page, which says where the next one begins, if there is one.
    pub(crate) fn page(&self, rows: Vec<Token>) -> StoredPage {
        let found = rows.len();
        let size = usize::try_from(self.limit - 1).unwrap_or(0);
        let mut tokens = Vec::with_capacity(found.min(size));
        let mut bytes = 0;
        let mut last = None;
        for row in rows.into_iter().take(size) {
            let mint = row.mint;
            let token = to_message(row);
            bytes += token.encoded_len();
            if bytes > PAGE_BYTES_MAX && last.is_some() {
                break;
            }
            last = Some(mint);
            tokens.push(token);
        }
        let last = last.filter(|_| tokens.len() < found);
        StoredPage::new(&tokens, last.as_ref().map(|mint| mint.key().as_bytes().as_slice()))
    }
}

/// The mint that a cursor names, as text; no cursor comes before every mint.
fn after(cursor: Option<Vec<u8>>) -> Result<String, FieldViolation> {
    match cursor.map(<[u8; 32]>::try_from) {
        None => Ok(String::new()),
        Some(Ok(key)) => Ok(PublicKey::from_bytes(key).to_string()),
        // Signed by us, so it must come from another release.
        Some(Err(_)) => Err(FieldViolation::new("page_token", "is of another release, start over")),
    }
}

/// A filter's value: empty means that it is not set.
fn condition(bad: &mut FieldViolations, field: &str, text: String) -> Option<String> {
    if text.contains('\0') {
        bad.add(field, "must not contain the character U+0000");
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
