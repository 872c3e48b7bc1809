//! A position in the log of a Postgres.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use tokio_postgres::types::{FromSql, PgLsn, Type};

/// A position in the write-ahead log, which only grows: the token of a write.
///
/// A read at a replica that has replayed the log up to here sees the write. Written like Postgres
/// writes it, and ordered as it is in the log:
///
/// ```
/// use forebay_postgres::Lsn;
///
/// let lsn: Lsn = "16/B374D848".parse()?;
/// assert_eq!(lsn.to_string(), "16/B374D848");
/// assert!(lsn > "2/FFFFFFFF".parse()?);
/// assert_eq!(Lsn::new(0x0000_0016_B374_D848), lsn);
/// assert_eq!(lsn.bytes_since("16/B374D840".parse()?), 8);
/// assert!("16-B374D848".parse::<Lsn>().is_err());
/// # Ok::<(), forebay_postgres::ParseLsnError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(u64);

impl Lsn {
    /// The position `bytes` after the beginning of the log.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes from the beginning of the log.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Bytes from `earlier` to here; zero if it is not earlier.
    pub const fn bytes_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// Why a text is no [`Lsn`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLsnError {
    /// There is no slash.
    #[error("a position in the log is two hexadecimal numbers with a slash between them")]
    NoSlash,
    /// One of the halves is no number of 32 bits.
    #[error("half of a position in the log is not a hexadecimal number of at most 8 digits")]
    Half(#[from] ParseIntError),
}

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, ParseLsnError> {
        let (high, low) = text.split_once('/').ok_or(ParseLsnError::NoSlash)?;
        let [high, low] = [high, low].map(|half| u32::from_str_radix(half, 16));
        Ok(Self(u64::from(high?) << 32 | u64::from(low?)))
    }
}

impl<'row> FromSql<'row> for Lsn {
    fn from_sql(
        of: &Type,
        raw: &'row [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        PgLsn::from_sql(of, raw).map(|lsn| Self(lsn.into()))
    }

    fn accepts(of: &Type) -> bool {
        <PgLsn as FromSql>::accepts(of)
    }
}
