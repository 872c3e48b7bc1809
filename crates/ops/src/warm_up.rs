//! The cache before the first request.

use forebay_boot::Process;
use forebay_cache::Cache;

/// Reads what others read often into the memory of a process. It does not serve before that, or
/// before `cache.warm_up_timeout` is over. To be called after all entities were added to the cache.
pub fn warm_up(process: &Process, cache: &Cache) {
    let (component, cache) = (process.readiness.component("cache"), cache.clone());
    tokio::spawn(async move {
        cache.warm_up().await;
        component.set_ready();
    });
}
