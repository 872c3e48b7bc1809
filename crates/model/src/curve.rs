//! How a liquidity pool prices a swap.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// How a liquidity pool prices a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Curve {
    /// x * y = k.
    ConstantProduct,
    /// StableSwap: flat around parity, for assets of equal value.
    Stable,
}

impl Curve {
    /// The name that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConstantProduct => "constant_product",
            Self::Stable => "stable",
        }
    }
}

/// A text names no curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("must be constant_product or stable")]
pub struct ParseCurveError;

impl FromStr for Curve {
    type Err = ParseCurveError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "constant_product" => Ok(Self::ConstantProduct),
            "stable" => Ok(Self::Stable),
            _ => Err(ParseCurveError),
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
