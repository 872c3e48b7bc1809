//! The stored form of an entry in L2.
//!
//! `kind(1) version(16) epoch(16) schema(4) filled_at(16) length(8) checksum(16) body`, all numbers
//! as lower-case hexadecimal of fixed width: Lua compares versions as text, and an operator can
//! read an entry in `redis-cli`. A tombstone is `T version(16) checksum(16)`. The version of either is
//! believed only with its checksum: a row that does not exist has no other version.

use bytes::Bytes;

/// Length of the header before the body.
const HEADER_BYTES: usize = 1 + 16 + 16 + 4 + 16 + 8 + 16;
/// Length of a tombstone.
const TOMBSTONE_BYTES: usize = 1 + 16 + 16;

/// Marks the entries that may be trusted: those of the epoch that is in force.
///
/// Whoever suspects that entries are wrong and cannot say which ones puts a new epoch in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch([u8; Epoch::BYTES]);

impl Epoch {
    const BYTES: usize = 16;

    /// An epoch that never was in force.
    pub(crate) fn fresh() -> Self {
        let mut text = [b'0'; Self::BYTES];
        text.copy_from_slice(format!("{:016x}", rand::random::<u64>()).as_bytes());
        Self(text)
    }

    /// The epoch in force, from the value of its key.
    pub(crate) fn parse(stored: &[u8]) -> Option<Self> {
        let text = stored.get(..Self::BYTES)?;
        text.iter().all(u8::is_ascii_hexdigit).then(|| text.try_into().ok().map(Self)).flatten()
    }

    /// The epoch as text, for an operator.
    pub(crate) fn to_text(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a stored value says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) content: Content,
    pub(crate) version: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// An encoded value.
    Value { body: Bytes, header: Header },
    /// There is no such row.
    Negative { header: Header },
    /// The row changed to this version and nobody has read it since.
    Tombstone,
}

/// What a fill adds to its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) epoch: Epoch,
    pub(crate) schema: u16,
    /// By the wall clock of the process that filled the entry. It serves to let entries expire, never
    /// to judge whether they are right.
    pub(crate) filled_at_ms: u64,
}

/// The version as it is stored.
pub(crate) fn version_text(version: i64) -> String {
    format!("{:016x}", version.max(0))
}

/// When an entry was filled, as it is stored.
pub(crate) fn filled_at_text(filled_at_ms: u64) -> String {
    format!("{filled_at_ms:016x}")
}

/// A tombstone as it is stored.
pub(crate) fn tombstone(version: i64) -> String {
    let mut stored = format!("T{}", version_text(version));
    let sum = checksum(&[stored.as_bytes()]);
    stored.push_str(&format!("{sum:016x}"));
    stored
}

/// A stored value, or a stored "there is no such row" for `body: None`.
pub(crate) fn encode(body: Option<&[u8]>, version: i64, header: &Header) -> Vec<u8> {
    let kind = if body.is_some() { 'V' } else { 'N' };
    let body = body.unwrap_or_default();
    let mut stored = Vec::with_capacity(HEADER_BYTES + body.len());
    stored.extend_from_slice(format!("{kind}{}", version_text(version)).as_bytes());
    stored.extend_from_slice(header.epoch.as_bytes());
    let (filled_at, length) = (filled_at_text(header.filled_at_ms), body.len());
    let rest = format!("{:04x}{filled_at}{length:08x}", header.schema);
    stored.extend_from_slice(rest.as_bytes());
    let sum = checksum(&[&stored, body]);
    stored.extend_from_slice(format!("{sum:016x}").as_bytes());
    stored.extend_from_slice(body);
    stored
}

/// Reads a stored value; `None` for anything that we did not write, or not completely.
pub(crate) fn decode(stored: &Bytes) -> Option<Stored> {
    let kind = *stored.first()?;
    let version = i64::try_from(hex(stored, 1, 16)?).ok()?;
    if kind == b'T' {
        let is_whole = stored.len() == TOMBSTONE_BYTES
            && hex(stored, 17, 16)? == checksum(&[stored.get(..17)?]);
        return is_whole.then_some(Stored { content: Content::Tombstone, version });
    }
    let header = Header {
        epoch: Epoch::parse(stored.get(17..33)?)?,
        schema: u16::try_from(hex(stored, 33, 4)?).ok()?,
        filled_at_ms: hex(stored, 37, 16)?,
    };
    let length = usize::try_from(hex(stored, 53, 8)?).ok()?;
    let sum = hex(stored, 61, 16)?;
    if stored.len() != HEADER_BYTES.checked_add(length)? {
        return None;
    }
    let body = stored.slice(HEADER_BYTES..);
    if checksum(&[stored.get(..61)?, &body]) != sum {
        return None;
    }
    let content = match kind {
        b'V' => Content::Value { body, header },
        b'N' if length == 0 => Content::Negative { header },
        _ => return None,
    };
    Some(Stored { content, version })
}

/// Lower-case digits only, as we write them.
fn hex(stored: &Bytes, at: usize, digits: usize) -> Option<u64> {
    stored.get(at..at + digits)?.iter().try_fold(0_u64, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

/// FNV-1a, 64 bits (draft-eastlake-fnv), but over eight bytes at a time: enough against damage, and
/// needs no table. The last bytes are filled up with zeros, since what is stored tells its length.
/// Each step can be undone, so a change of any one word changes the sum.
fn checksum(parts: &[&[u8]]) -> u64 {
    let add = |mut sum: u64, word: [u8; 8]| {
        sum = (sum ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
        // A product carries upwards only.
        sum ^= sum >> 32;
        sum
    };
    parts.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, part| {
        let (words, rest) = part.as_chunks::<8>();
        let sum = words.iter().fold(sum, |sum, word| add(sum, *word));
        if rest.is_empty() {
            return sum;
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        add(sum, last)
    })
}

#[cfg(test)]
mod tests;
