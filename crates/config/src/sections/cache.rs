//! `[cache]`: the two-level cache.

use std::time::Duration;

/// The two-level cache of one process.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Bytes that L1 may hold, keys and overhead included.
    pub l1_bytes_max: u64,
    /// How long one Redis operation may take before the cache goes on without it.
    pub l2_timeout: Duration,
    /// How long an entry of L1 is trusted while invalidations cannot be received.
    pub staleness_max: Duration,
    /// Tokens.
    pub token: EntityCacheConfig,
    /// Liquidity pools.
    pub pool: EntityCacheConfig,
}

/// How long entries of one entity live.
#[derive(Debug, Clone)]
pub struct EntityCacheConfig {
    /// Time to live in both levels, less up to 10 % so that entries do not expire together.
    pub ttl: Duration,
    /// Time to live of "there is no such row".
    pub negative_ttl: Duration,
    /// Largest encoded value that is cached, in bytes.
    pub value_bytes_max: usize,
}
