//! What is cached: a record of a few hundred bytes, and the key of it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes of a record's text: with the rest the record is about 300 bytes long.
pub const TEXT_BYTES: usize = 250;

/// A cached value, the same for every side. We and gRPC encode it as protobuf, peers with serde.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub struct Record {
    /// Key of the row.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Version of the row.
    #[prost(int64, tag = "2")]
    pub version: i64,
    /// The rest of the row.
    #[prost(string, tag = "3")]
    pub text: String,
}

/// A key in the forms that sides want it in, made before the clock runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The key of the row.
    pub id: Uuid,
    /// The key with the namespace of the side before it, for caches whose keys are text.
    pub text: String,
}

impl Key {
    /// The key of `id` in a namespace.
    pub fn new(namespace: &str, id: Uuid) -> Self {
        Self { id, text: format!("{namespace}:{id}") }
    }
}

/// Keys that nobody has used yet.
pub fn fresh(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| Uuid::new_v4()).collect()
}

/// Many keys in a row, none of which has to be kept: a million texts take longer to make than to
/// read.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    base: u128,
    count: usize,
}

/// Digits of a key that count, in base 16; the others are those of the range.
const COUNTING_DIGITS: usize = 12;

impl Range {
    /// So many keys that nobody has used yet.
    pub fn fresh(count: usize) -> Self {
        let bits = 4 * COUNTING_DIGITS;
        Self { base: Uuid::new_v4().as_u128() >> bits << bits, count }
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// One of them.
    pub fn id(self, index: usize) -> Uuid {
        Uuid::from_u128(self.base + index as u128)
    }

    /// The SQL of the key of `number`, the name of an integer.
    pub fn sql(self, number: &str) -> String {
        let digits = format!("{:032x}", self.base);
        let common = &digits[..digits.len() - COUNTING_DIGITS];
        format!("('{common}' || lpad(to_hex({number}), {COUNTING_DIGITS}, '0'))::uuid")
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn keys_of_a_range_count_up() {
        let range = Range::fresh(300);
        let common = range.id(0).simple().to_string()[..20].to_owned();
        assert_eq!(range.id(255).simple().to_string(), format!("{common}0000000000ff"));
        assert_eq!(range.sql("i"), format!("('{common}' || lpad(to_hex(i), 12, '0'))::uuid"));
    }
}
