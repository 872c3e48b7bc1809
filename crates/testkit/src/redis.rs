//! The Redis that tests share.

use std::sync::atomic::{AtomicU32, Ordering};

use uuid::Uuid;

use crate::environment;

/// URL of the Redis that all tests share. Never flush it: use keys below [`redis_prefix`].
///
/// # Panics
///
/// When the variable is not set.
pub fn redis_url() -> String {
    environment::redis_url()
}

/// A key prefix that no other test uses, such as `test:018f…:0:`.
pub fn redis_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test:{}:{number}:", Uuid::now_v7().simple())
}
