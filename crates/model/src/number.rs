//! Small numbers with a range.

use std::fmt;

use thiserror::Error;

/// Why a number is not a value of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be at most {max}, is {value}")]
pub struct NumberError {
    /// The largest value allowed.
    pub max: u32,
    /// The value given.
    pub value: u32,
}

/// Number of decimal places of one whole token, 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Decimals(u8);

impl Decimals {
    /// So many decimal places.
    pub const fn new(places: u8) -> Self {
        Self(places)
    }

    /// The number of places.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u32> for Decimals {
    type Error = NumberError;

    fn try_from(value: u32) -> Result<Self, Self::Error> {
        u8::try_from(value).map(Self).map_err(|_| NumberError { max: u8::MAX.into(), value })
    }
}

/// A fee in basis points (1/10000), 0 to 10000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeeBps(u16);

impl FeeBps {
    /// The whole amount: 10000 basis points.
    pub const MAX: Self = Self(10_000);

    /// The basis points.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u32> for FeeBps {
    type Error = NumberError;

    /// ```
    /// use forebay_model::FeeBps;
    ///
    /// assert_eq!(FeeBps::try_from(10_000_u32), Ok(FeeBps::MAX));
    /// assert!(FeeBps::try_from(10_001_u32).is_err());
    /// ```
    fn try_from(value: u32) -> Result<Self, Self::Error> {
        match u16::try_from(value) {
            Ok(bps) if bps <= Self::MAX.0 => Ok(Self(bps)),
            Ok(_) | Err(_) => Err(NumberError { max: Self::MAX.0.into(), value }),
        }
    }
}

/// The version of a row: grows with every change, also across a delete and a new creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(i64);

impl Version {
    /// The version with this number.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
