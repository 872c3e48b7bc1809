//! Lists of pools: what may be asked and the statement that answers it.

use std::collections::HashMap;

use forebay_cache::StoredPage;
use forebay_grpc::error::FieldViolation;
use forebay_grpc::fields::FieldViolations;
use forebay_grpc::page::{self, Fingerprint, PageTokens};
use forebay_model::{Dex, Mint, Pool, PublicKey, TokenId};
use forebay_postgres::{Sql, ToSql};
use forebay_proto::pool::v1 as pb;
use uuid::Uuid;

use crate::convert::to_message;
use crate::store::{COLUMNS, JOINS};

/// The method that page tokens are bound to.
const METHOD: &str = "forebay.pool.v1.PoolService/ListPools";

/// One page that is asked for.
#[derive(Debug)]
pub(crate) struct PageRequest {
    token: Option<Mint>,
    pair: Option<[Mint; 2]>,
    dex: Option<Dex>,
    after: String,
    size: usize,
    fingerprint: Fingerprint,
}

/// One page to read: the request with its mints resolved, which identifies it, whoever asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct PageQuery {
    pub(crate) token_id: Option<Uuid>,
    /// In order, because a pool has no first token.
    pub(crate) pair: Option<[Uuid; 2]>,
    pub(crate) dex: Option<String>,
    /// The address before the first one of the page; empty for the first page.
    pub(crate) after: String,
    /// One row more than the page has: it tells whether a next page exists.
    pub(crate) limit: i64,
}

impl PageRequest {
    /// Checks a request; page tokens are those that `page_tokens` made.
    pub(crate) fn new(
        request: pb::ListPoolsRequest,
        page_tokens: &PageTokens,
    ) -> Result<Self, FieldViolations> {
        let mut bad = FieldViolations::default();
        let fingerprint = Fingerprint::new(METHOD, request.filter.as_ref());
        let size = bad.absorb(page::page_size(request.page_size));
        let cursor = bad.absorb(page_tokens.decode(fingerprint, &request.page_token));
        let after = cursor.and_then(|cursor| bad.absorb(after(cursor)));
        let filter = request.filter.unwrap_or_default();
        let token = (!filter.token_mint.is_empty())
            .then(|| bad.take("filter.token_mint", filter.token_mint.parse()))
            .flatten();
        let pair = filter.pair.and_then(|pair| two_mints(&mut bad, &pair));
        let dex = (!filter.dex.is_empty())
            .then(|| bad.take("filter.dex", Dex::new(filter.dex)))
            .flatten();
        match (size, after) {
            (Some(size), Some(after)) if bad.is_empty() => {
                Ok(Self { token, pair, dex, after, size, fingerprint })
            }
            _ => Err(bad),
        }
    }

    /// The mints that have to be resolved.
    pub(crate) fn mints(&self) -> Vec<Mint> {
        self.token.iter().chain(self.pair.iter().flatten()).copied().collect()
    }

    /// The query with the ids of its tokens; `None` when one of them is unknown, because then
    /// no pool can have it.
    pub(crate) fn resolved(&self, ids: &HashMap<Mint, TokenId>) -> Option<PageQuery> {
        let id = |mint: &Mint| ids.get(mint).map(TokenId::uuid);
        let token_id = match &self.token {
            Some(mint) => Some(id(mint)?),
            None => None,
        };
        let pair = match &self.pair {
            Some([first, second]) => {
                let mut pair = [id(first)?, id(second)?];
                pair.sort_unstable();
                Some(pair)
            }
            None => None,
        };
        let limit = i64::try_from(self.size + 1).unwrap_or(i64::MAX);
        let dex = self.dex.as_ref().map(Dex::to_string);
        Some(PageQuery { token_id, pair, dex, after: self.after.clone(), limit })
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
        let mut conditions = String::from("pool_address > $1");
        if let Some([first, second]) = &self.pair {
            parameters.push(first);
            parameters.push(second);
            let (m, n) = (parameters.len() - 1, parameters.len());
            conditions += &format!(
                " AND least(base_token_id, quote_token_id) = least(${m}::uuid, ${n}::uuid) \
                 AND greatest(base_token_id, quote_token_id) = greatest(${m}::uuid, ${n}::uuid)"
            );
        }
        if let Some(dex) = &self.dex {
            parameters.push(dex);
            conditions += &format!(" AND dex = ${}", parameters.len());
        }
        let page = match &self.token_id {
            Some(id) => {
                parameters.push(id);
                let n = parameters.len();
                // Each side is read in the order of its own index and cut to the page. No pool
                // comes twice, because its two tokens differ.
                let [base, quote] = ["base_token_id", "quote_token_id"]
                    .map(|side| page_of("pools", &format!("{side} = ${n} AND {conditions}")));
                page_of(&format!("(({base}) UNION ALL ({quote})) either_side"), "true")
            }
            None => page_of("pools", &conditions),
        };
        let text = format!("SELECT {COLUMNS} FROM ({page}) p {JOINS} ORDER BY p.pool_address");
        let sql = Sql::owned("SELECT pools", text);
        // How many pools a pair or an exchange has decides which index is the right one.
        let sql = match (&self.pair, &self.dex) {
            (None, None) => sql,
            (Some(_), _) | (_, Some(_)) => sql.planned_each_time(),
        };
        (sql, parameters)
    }

    /// Cuts `rows` to the page, which says where the next one begins, if there is one.
    pub(crate) fn page(&self, mut rows: Vec<Pool>) -> StoredPage {
        let size = usize::try_from(self.limit - 1).unwrap_or(0);
        let is_last = rows.len() <= size;
        rows.truncate(size);
        let last = rows.last().filter(|_| !is_last).map(|pool| pool.pool_address);
        let pools: Vec<_> = rows.into_iter().map(to_message).collect();
        StoredPage::new(&pools, last.as_ref().map(|last| last.key().as_bytes().as_slice()))
    }
}

fn page_of(rows: &str, conditions: &str) -> String {
    format!("SELECT * FROM {rows} WHERE {conditions} ORDER BY pool_address LIMIT $2")
}

fn two_mints(bad: &mut FieldViolations, pair: &pb::MintPair) -> Option<[Mint; 2]> {
    let first = bad.take("filter.pair.first_mint", pair.first_mint.parse::<Mint>());
    let second = bad.take("filter.pair.second_mint", pair.second_mint.parse::<Mint>());
    let (first, second) = (first?, second?);
    if first == second {
        bad.add("filter.pair.second_mint", "must differ from first_mint");
    }
    Some([first, second])
}

/// The address that a cursor names, as text; no cursor comes before every address.
fn after(cursor: Option<Vec<u8>>) -> Result<String, FieldViolation> {
    match cursor.map(<[u8; 32]>::try_from) {
        None => Ok(String::new()),
        Some(Ok(key)) => Ok(PublicKey::from_bytes(key).to_string()),
        // Signed by us, so it must come from another release.
        Some(Err(_)) => Err(FieldViolation::new("page_token", "is of another release, start over")),
    }
}

#[cfg(test)]
mod tests;
