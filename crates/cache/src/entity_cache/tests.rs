//! How old an entry may be that is served because the store fails.

use std::sync::atomic::Ordering::SeqCst;

use tokio::time::Instant;

use super::*;
use crate::rig::{HOUR, LOAD, Numbers, cache, config};

const MAX_AGE: Duration = Duration::from_secs(600);
const AVAILABLE: Consistency = Consistency::Available { max_age: MAX_AGE };

/// Fails if an entry is served longer than `max_age` after it was read, by milliseconds, or not until
/// then. It is counted from when its load departed: from then on nobody has proved it to be current.
#[tokio::test(start_paused = true)]
async fn an_entry_is_served_as_stale_until_it_has_the_age_that_is_allowed() {
    let (mut settings, mut entity) = config(0.0);
    // Soon nothing is trusted, as nobody follows the changes; and it has not expired.
    settings.staleness_max = Duration::from_millis(10);
    entity.ttl = HOUR;
    let numbers = Numbers::default();
    let cache = cache(&(settings, entity), &numbers);
    let read_at = Instant::now();
    cache.get(&1, AVAILABLE).await.expect("loaded");
    numbers.0.fails.store(true, SeqCst);
    // The failing load takes its time, and after it the age counts.
    tokio::time::sleep_until(read_at + MAX_AGE - LOAD).await;
    let lookup = cache.get(&1, AVAILABLE).await.expect("as old as it may be");
    assert_eq!((lookup.outcome, read_at.elapsed()), (Outcome::Stale, MAX_AGE));
    assert!(cache.get(&1, Consistency::Bounded(HOUR)).await.is_err(), "not asked for");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let lookup = cache.get(&1, AVAILABLE).await;
    assert!(lookup.is_err(), "older than it may be: {:?}, {lookup:?}", read_at.elapsed());
}
