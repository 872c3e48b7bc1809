//! What is cached: each pool under its id and under its address.
//!
//! Both hold the whole message, so that a hit costs one read. They can disagree for no longer
//! than the staleness bound, because every write invalidates both.

use bytes::Bytes;
use forebay_cache::{ChangedRow, DecodeError, Entity};
use forebay_model::{PoolAddress, PoolId};
use forebay_proto::pool::v1 as pb;
use prost::Message as _;

/// Pools under their ids.
#[derive(Debug)]
pub struct PoolById;

/// Pools under their addresses.
#[derive(Debug)]
pub struct PoolByAddress;

impl Entity for PoolById {
    type Key = PoolId;
    type Value = pb::Pool;

    const NAME: &'static str = "pool";
    const SOURCE: &'static str = "pool";
    const SCHEMA: u16 = 1;

    fn key_text(key: &PoolId) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<PoolId> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<Self::Key> {
        row.id.parse().ok()
    }

    fn version(value: &pb::Pool) -> i64 {
        value.version
    }

    fn encode(value: &pb::Pool) -> Bytes {
        value.encode_to_vec().into()
    }

    fn decode(bytes: Bytes) -> Result<pb::Pool, DecodeError> {
        pb::Pool::decode(bytes).map_err(DecodeError::because)
    }
}

impl Entity for PoolByAddress {
    type Key = PoolAddress;
    type Value = pb::Pool;

    const NAME: &'static str = "pool_by_address";
    const SOURCE: &'static str = PoolById::SOURCE;
    const SCHEMA: u16 = PoolById::SCHEMA;

    fn key_text(key: &PoolAddress) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<PoolAddress> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<Self::Key> {
        row.key.parse().ok()
    }

    fn version(value: &pb::Pool) -> i64 {
        PoolById::version(value)
    }

    fn encode(value: &pb::Pool) -> Bytes {
        PoolById::encode(value)
    }

    fn decode(bytes: Bytes) -> Result<pb::Pool, DecodeError> {
        PoolById::decode(bytes)
    }
}
