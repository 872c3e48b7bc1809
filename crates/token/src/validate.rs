//! Requests checked and turned into values; a refusal names every bad field.

use std::fmt::Display;
use std::str::FromStr;

use forebay_grpc::fields::FieldViolations;
use forebay_grpc::mask::UpdateMask;
use forebay_grpc::{etag, request_id};
use forebay_model::{
    Decimals, Extensions, ExtensionsError, LogoUri, Mint, Symbol, Tags, TagsError, TokenFacts,
    TokenId, TokenName, Version,
};
use forebay_proto::token::v1 as pb;
use uuid::Uuid;

/// Keys of one batch at most, ids and mints together.
pub(crate) const BATCH_MAX: usize = 1000;

/// The fields that an update may change.
const MUTABLE: &[&str] = &["symbol", "name", "decimals", "logo_uri", "tags", "extensions"];

/// A valid batch.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) ids: Vec<TokenId>,
    pub(crate) mints: Vec<Mint>,
}

/// A valid creation.
#[derive(Debug)]
pub(crate) struct Creation {
    pub(crate) mint: Mint,
    pub(crate) facts: TokenFacts,
    pub(crate) request_id: Option<Uuid>,
}

/// A valid update: `None` keeps what is there.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) id: TokenId,
    pub(crate) etag: Option<Version>,
    /// The mint that the caller believes the token has.
    pub(crate) mint: Option<Mint>,
    pub(crate) change: Change,
    pub(crate) request_id: Option<Uuid>,
}

/// New values of facts.
#[derive(Debug, Default, PartialEq, Clone)]
pub(crate) struct Change {
    symbol: Option<Symbol>,
    name: Option<TokenName>,
    decimals: Option<Decimals>,
    logo_uri: Option<LogoUri>,
    tags: Option<Tags>,
    extensions: Option<Extensions>,
}

/// A valid deletion.
#[derive(Debug)]
pub(crate) struct Deletion {
    pub(crate) id: TokenId,
    pub(crate) etag: Option<Version>,
    pub(crate) request_id: Option<Uuid>,
}

impl Change {
    /// Whether nothing changes.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts the new values in place of the old ones.
    pub(crate) fn apply(self, facts: TokenFacts) -> TokenFacts {
        TokenFacts {
            symbol: self.symbol.unwrap_or(facts.symbol),
            name: self.name.unwrap_or(facts.name),
            decimals: self.decimals.unwrap_or(facts.decimals),
            logo_uri: self.logo_uri.unwrap_or(facts.logo_uri),
            tags: self.tags.unwrap_or(facts.tags),
            extensions: self.extensions.unwrap_or(facts.extensions),
        }
    }

    /// The facts of a change that sets every one of them.
    fn complete(self) -> Option<TokenFacts> {
        Some(TokenFacts {
            symbol: self.symbol?,
            name: self.name?,
            decimals: self.decimals?,
            logo_uri: self.logo_uri?,
            tags: self.tags?,
            extensions: self.extensions?,
        })
    }
}

/// The id that a get asks for.
pub(crate) fn get(request: &pb::GetTokenRequest) -> Result<TokenId, FieldViolations> {
    let mut bad = FieldViolations::default();
    let id = bad.take("id", request.id.parse());
    id.ok_or(bad)
}

/// The mint that a lookup asks for.
pub(crate) fn lookup(request: &pb::LookupTokenRequest) -> Result<Mint, FieldViolations> {
    let mut bad = FieldViolations::default();
    let mint = bad.take("mint", request.mint.parse());
    mint.ok_or(bad)
}

/// The keys that a batch asks for.
pub(crate) fn batch(request: &pb::BatchGetTokensRequest) -> Result<Batch, FieldViolations> {
    let mut bad = FieldViolations::default();
    let keys = request.ids.len() + request.mints.len();
    if keys > BATCH_MAX {
        // The keys themselves are not looked at: a thousand bad ones would make a huge reply.
        let field = if request.ids.len() > BATCH_MAX { "ids" } else { "mints" };
        bad.add(field, format!("ids and mints must be at most {BATCH_MAX} together, are {keys}"));
        return Err(bad);
    }
    let ids = parse_all(&mut bad, "ids", &request.ids);
    let mints = parse_all(&mut bad, "mints", &request.mints);
    if bad.is_empty() { Ok(Batch { ids, mints }) } else { Err(bad) }
}

/// The token to create.
pub(crate) fn create(request: pb::CreateTokenRequest) -> Result<Creation, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let Some(token) = request.token else {
        bad.add("token", "must be set");
        return Err(bad);
    };
    let mint = bad.take("token.mint", token.mint.parse());
    let facts = facts(&mut bad, token, |_, _| true).complete();
    match (mint, facts, request_id) {
        (Some(mint), Some(facts), Some(request_id)) if bad.is_empty() => {
            Ok(Creation { mint, facts, request_id })
        }
        _ => Err(bad),
    }
}

/// The update to make.
pub(crate) fn update(request: pb::UpdateTokenRequest) -> Result<Update, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let mask = bad.absorb_all(UpdateMask::parse(request.update_mask.as_ref(), MUTABLE));
    let Some(token) = request.token else {
        bad.add("token", "must be set");
        return Err(bad);
    };
    let id = bad.take("token.id", token.id.parse());
    let etag = bad.absorb(etag::parse("token.etag", &token.etag));
    // Of a bad mask nothing is known, so what is set is checked: it is all that was meant to be.
    let includes = |path: &str, is_set| match &mask {
        Some(mask) => mask.includes(path, is_set),
        None => is_set,
    };
    // A caller who sends back what they have read names the mint without meaning to change it.
    let mint = if !token.mint.is_empty() && includes("mint", true) {
        bad.take("token.mint", token.mint.parse())
    } else {
        None
    };
    let change = facts(&mut bad, token, includes);
    match (id, etag, request_id) {
        (Some(id), Some(etag), Some(request_id)) if bad.is_empty() => {
            Ok(Update { id, etag: etag.map(Version::new), mint, change, request_id })
        }
        _ => Err(bad),
    }
}

/// The deletion to make.
pub(crate) fn delete(request: &pb::DeleteTokenRequest) -> Result<Deletion, FieldViolations> {
    let mut bad = FieldViolations::default();
    let request_id = bad.absorb(request_id::parse(&request.request_id));
    let id = bad.take("id", request.id.parse());
    let etag = bad.absorb(etag::parse("etag", &request.etag));
    match (id, etag, request_id) {
        (Some(id), Some(etag), Some(request_id)) => {
            Ok(Deletion { id, etag: etag.map(Version::new), request_id })
        }
        _ => Err(bad),
    }
}

/// The facts of `token` that are `included`, given their path and whether they are set.
fn facts(
    bad: &mut FieldViolations,
    token: pb::Token,
    included: impl Fn(&str, bool) -> bool,
) -> Change {
    let mut change = Change::default();
    if included("symbol", !token.symbol.is_empty()) {
        change.symbol = bad.take("token.symbol", Symbol::new(token.symbol));
    }
    if included("name", !token.name.is_empty()) {
        change.name = bad.take("token.name", TokenName::new(token.name));
    }
    if included("decimals", token.decimals != 0) {
        change.decimals = bad.take("token.decimals", Decimals::try_from(token.decimals));
    }
    if included("logo_uri", !token.logo_uri.is_empty()) {
        change.logo_uri = bad.take("token.logo_uri", LogoUri::new(token.logo_uri));
    }
    if included("tags", !token.tags.is_empty()) {
        match Tags::new(token.tags) {
            Ok(tags) => change.tags = Some(tags),
            Err(errors) => errors.into_iter().for_each(|error| add_tags_error(bad, error)),
        }
    }
    if included("extensions", !token.extensions.is_empty()) {
        match Extensions::new(token.extensions) {
            Ok(extensions) => change.extensions = Some(extensions),
            Err(errors) => errors.into_iter().for_each(|error| add_extensions_error(bad, error)),
        }
    }
    change
}

fn parse_all<T: FromStr<Err: Display>>(
    bad: &mut FieldViolations,
    field: &str,
    texts: &[String],
) -> Vec<T> {
    let texts = texts.iter().enumerate();
    texts.filter_map(|(at, text)| bad.take(format!("{field}[{at}]"), text.parse())).collect()
}

fn add_tags_error(bad: &mut FieldViolations, error: TagsError) {
    match error {
        TagsError::TooMany { .. } => bad.add("token.tags", error.to_string()),
        TagsError::Tag { at, cause } => bad.add(format!("token.tags[{at}]"), cause.to_string()),
    }
}

fn add_extensions_error(bad: &mut FieldViolations, error: ExtensionsError) {
    let description = match &error {
        ExtensionsError::Key { cause, .. } => format!("{error}: it {cause}"),
        ExtensionsError::TooMany { .. }
        | ExtensionsError::ValueTooLong { .. }
        | ExtensionsError::ValueNul { .. } => error.to_string(),
    };
    bad.add("token.extensions", description);
}

#[cfg(test)]
mod tests;
