//! What is cached: each token under its id and under its mint.
//!
//! Both hold the whole message, so that a hit costs one read. They can disagree for no longer
//! than the staleness bound, because every write invalidates both.

use bytes::Bytes;
use forebay_cache::{ChangedRow, DecodeError, Entity};
use forebay_model::{Mint, TokenId};
use forebay_proto::token::v1 as pb;
use prost::Message as _;

/// Tokens under their ids.
#[derive(Debug)]
pub struct TokenById;

/// Tokens under their mints.
#[derive(Debug)]
pub struct TokenByMint;

impl Entity for TokenById {
    type Key = TokenId;
    type Value = pb::Token;

    const NAME: &'static str = "token";
    const SOURCE: &'static str = "token";
    const SCHEMA: u16 = 1;

    fn key_text(key: &TokenId) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<TokenId> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<Self::Key> {
        row.id.parse().ok()
    }

    fn version(value: &pb::Token) -> i64 {
        value.version
    }

    fn encode(value: &pb::Token) -> Bytes {
        value.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<pb::Token, DecodeError> {
        pb::Token::decode(bytes).map_err(DecodeError::because)
    }
}

impl Entity for TokenByMint {
    type Key = Mint;
    type Value = pb::Token;

    const NAME: &'static str = "token_by_mint";
    const SOURCE: &'static str = TokenById::SOURCE;
    const SCHEMA: u16 = TokenById::SCHEMA;

    fn key_text(key: &Mint) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<Mint> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<Self::Key> {
        row.key.parse().ok()
    }

    fn version(value: &pb::Token) -> i64 {
        TokenById::version(value)
    }

    fn encode(value: &pb::Token) -> Bytes {
        TokenById::encode(value)
    }

    fn decode(bytes: Bytes) -> Result<pb::Token, DecodeError> {
        TokenById::decode(bytes)
    }
}
