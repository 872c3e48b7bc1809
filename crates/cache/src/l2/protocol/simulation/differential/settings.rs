//! Settings of a cache in which nothing depends on time.

use std::time::Duration;

use forebay_config::{CacheConfig, EntityCacheConfig, ListCacheConfig};

use super::HOUR;

/// Nothing expires, and nobody gives up.
pub(super) fn config() -> CacheConfig {
    let entity = EntityCacheConfig {
        ttl: HOUR,
        negative_ttl: HOUR,
        value_bytes_max: 4096,
        stale_max: HOUR,
        loads_max: 8,
        loads_waiting_keys_max: 8192,
    };
    CacheConfig {
        l1_bytes_max: 1 << 20,
        l1_negative_bytes_max: 1 << 20,
        l2_timeout: Duration::from_secs(10),
        staleness_max: HOUR,
        outbox_interval: HOUR,
        lease_ttl: HOUR,
        lease_wait: HOUR,
        refresh_beta: 0.0,
        ttl_jitter: 0.2,
        verify_share: 0.0,
        verified_per_second_max: 1,
        token: entity.clone(),
        pool: entity,
        list: ListCacheConfig {
            l1_bytes_max: 1 << 20,
            ttl: HOUR,
            stale_max: HOUR,
            page_bytes_max: 4096,
            loads_max: 8,
            loads_waiting_max: 64,
            calm: HOUR,
        },
    }
}
