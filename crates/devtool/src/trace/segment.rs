//! The files traces are kept in: records of length, checksum and payload, one after another.
//!
//! A process that is killed while it writes leaves a torn record at the end. The checksum tells,
//! and whoever reads stops there: everything before the tear is whole.

use std::fs::File;
use std::io::{self, Write as _};

use flate2::Crc;

/// Length and checksum, four bytes each, little-endian.
const HEADER_BYTES: usize = 8;

/// Writes one record with a single call, so that a tear can only be at the end; returns its size.
pub(super) fn append(file: &mut File, payload: &[u8]) -> io::Result<u64> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut record = Vec::with_capacity(HEADER_BYTES + payload.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&checksum(payload).to_le_bytes());
    record.extend_from_slice(payload);
    file.write_all(&record)?;
    Ok(u64::from(length) + 8)
}

/// The whole records of a segment, in the order they were written.
#[derive(Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    read: usize,
}

impl<'a> Records<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, read: 0 }
    }

    /// How many bytes the records that were returned so far take up.
    pub(super) fn bytes_read(&self) -> usize {
        self.read
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.read..)?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (expected, rest) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let payload = rest.get(..length)?;
        if checksum(payload) != u32::from_le_bytes(*expected) {
            return None;
        }
        self.read += HEADER_BYTES + length;
        Some(payload)
    }
}

fn checksum(payload: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(payload);
    crc.sum()
}
