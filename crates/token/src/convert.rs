//! Tokens as messages, and their metadata as JSON.

use forebay_grpc::etag;
use forebay_model::{Extensions, LogoUri, Tags, Token, TokenFacts};
use forebay_proto::token::v1 as pb;
use serde_json::{Map, Value};

/// The message of a token.
pub(crate) fn to_message(token: Token) -> pb::Token {
    let TokenFacts { symbol, name, decimals, logo_uri, tags, extensions } = token.facts;
    pb::Token {
        id: token.id.to_string(),
        mint: token.mint.to_string(),
        symbol: symbol.into_string(),
        name: name.into_string(),
        decimals: decimals.get().into(),
        logo_uri: logo_uri.into_string(),
        tags: tags.into_vec(),
        extensions: extensions.into_map(),
        version: token.version.get(),
        etag: etag::encode(token.version.get()),
        create_time: Some(token.created_at.into()),
        update_time: Some(token.updated_at.into()),
    }
}

/// The keys of a token's metadata that are ours; others may stand beside them.
const LOGO_URI: &str = "logo_uri";
const TAGS: &str = "tags";
const EXTENSIONS: &str = "extensions";

/// The part of `facts` that is stored as JSON. What is unknown is absent.
pub(crate) fn metadata_to_json(facts: &TokenFacts) -> Value {
    let mut metadata = Map::new();
    if !facts.logo_uri.as_str().is_empty() {
        metadata.insert(LOGO_URI.to_owned(), facts.logo_uri.as_str().into());
    }
    if !facts.tags.as_slice().is_empty() {
        metadata.insert(TAGS.to_owned(), facts.tags.as_slice().into());
    }
    if !facts.extensions.as_map().is_empty() {
        let pairs = facts.extensions.as_map().iter();
        let object = pairs.map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        metadata.insert(EXTENSIONS.to_owned(), Value::Object(object));
    }
    Value::Object(metadata)
}

/// What the JSON of a row says; the error names the key that does not fit.
pub(crate) fn metadata_from_json(
    metadata: Value,
) -> Result<(LogoUri, Tags, Extensions), &'static str> {
    let Value::Object(mut metadata) = metadata else {
        return Err("metadata");
    };
    let logo_uri = match metadata.remove(LOGO_URI) {
        None => LogoUri::default(),
        Some(Value::String(text)) => LogoUri::new(text).map_err(|_| LOGO_URI)?,
        Some(_) => return Err(LOGO_URI),
    };
    let tags = match metadata.remove(TAGS) {
        None => Tags::default(),
        Some(Value::Array(items)) => {
            let texts = items.into_iter().map(text).collect::<Option<_>>().ok_or(TAGS)?;
            Tags::new(texts).map_err(|_| TAGS)?
        }
        Some(_) => return Err(TAGS),
    };
    let extensions = match metadata.remove(EXTENSIONS) {
        None => Extensions::default(),
        Some(Value::Object(pairs)) => {
            let pairs = pairs.into_iter().map(|(key, value)| Some((key, text(value)?)));
            let facts = pairs.collect::<Option<_>>().ok_or(EXTENSIONS)?;
            Extensions::new(facts).map_err(|_| EXTENSIONS)?
        }
        Some(_) => return Err(EXTENSIONS),
    };
    Ok((logo_uri, tags, extensions))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}
