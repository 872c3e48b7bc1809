//! How far a run has come.

/// What is being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tokens.
    Tokens,
    /// Liquidity pools.
    Pools,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being loaded.
    pub stage: Stage,
    /// Rows of this stage that are done.
    pub done: u64,
    /// Rows of this stage in all.
    pub total: u64,
}
