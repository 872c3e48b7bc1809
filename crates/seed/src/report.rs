//! What a run has done.

use std::fmt;

/// What a run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// Tokens.
    pub tokens: Counts,
    /// Liquidity pools.
    pub pools: Counts,
}

/// What became of the rows of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that were not there.
    pub inserted: u64,
    /// Rows that differed and were set back to the seed data.
    pub reset: u64,
    /// Rows that were there and were left as they are.
    pub kept: u64,
}

impl Counts {
    /// All rows of the run.
    pub fn total(&self) -> u64 {
        self.inserted + self.reset + self.kept
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.reset += other.reset;
        self.kept += other.kept;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} new, {} reset, {} kept)",
            self.total(),
            self.inserted,
            self.reset,
            self.kept
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tokens {}, pools {}", self.tokens, self.pools)
    }
}
