//! Settings of a cache in which nothing depends on time.

use std::time::Duration;

use forebay_config::CacheConfig;

use super::HOUR;
use crate::rig;

/// Nothing expires, and nobody gives up.
pub(super) fn config() -> CacheConfig {
    let (config, _) = rig::config(0.0);
    let l2_timeout = Duration::from_secs(10);
    CacheConfig { l2_timeout, lease_ttl: HOUR, lease_wait: HOUR, ..config }
}
