//! The two-level cache: moka in front of Redis in front of a loader.
//!
//! L1 is the process's own memory, L2 is Redis, shared by all replicas, and the loader reads the
//! store that holds the truth. An [`Entity`] binds a key type to a value type; an [`EntityCache`]
//! reads it. Each read says how old its answer may be ([`Consistency`]) and is told where the
//! answer came from ([`Outcome`]).
//!
//! # What is guaranteed
//!
//! 1. **Bound.** A read with [`Consistency::Bounded`] that begins at `t` contains every change
//!    committed before `t - bound`, on every replica, whatever becomes of Redis, also for rows that
//!    were changed by plain SQL. No wall clock takes part ([`WallClock`] says in what it does).
//! 2. **No resurrection.** A fill that began before a change is stored neither in L1 (fence per key
//!    stripe) nor in L2 (its lease is void), however late it comes.
//! 3. **Own writes.** After [`EntityCache::invalidate`] was called, reads of the same process contain
//!    the change, also while Redis is down.
//! 4. **Outage.** While Redis is down, reads answer from L1 within the bound and from the store
//!    else; a failing L2 never fails a read. When Redis is back, from whatever old or other data, L2
//!    is used again once it has been told of every change that it may have missed.
//! 5. **Damage.** An undecodable, truncated, altered or oversized entry, or one of another schema,
//!    is a miss.
//! 6. **Bounds.** L1 is bounded in bytes, over all entities, and keys that have no row have a bound
//!    of their own, so that a flood of them pushes no value out; one load per key is under way at a
//!    time, normally in all processes together; a caller who goes away harms nobody, and what only
//!    he waited for leaves the queue; a panicking loader is an error of those who wait.
//! 7. **Batches.** Misses that come together ask Redis together, and what it does not hold is
//!    loaded together: 1,000 reads of different keys at the same time cost a handful of round
//!    trips. A miss that comes alone waits for nobody; one that comes while others are under way
//!    waits for them, for about a millisecond at most.
//! 8. **Bulkhead.** No more than `loads_max` loads of an entity are under way at once, however slow
//!    the store is, and no more than `loads_waiting_keys_max` keys wait. Beyond that a read is stale
//!    if it may be, and [`CacheError::Overloaded`] if not.
//!
//! 9. **Lists.** Pages of a [`List`] have the same bound: every change of their table, of whatever row,
//!    makes all of them old, in both levels, with one step.
//!
//! The first one rests on four assumptions: the outbox and the rows are read from the server that
//! takes writes; monotonic clocks run at the rate of time; a Redis server answers from a prefix of
//! the commands that it or the server before it has executed; Postgres keeps what it has confirmed.
//! `docs/cache.md` has the protocol, the proof and the table of failures.
//!
//! # How
//!
//! Each process reads the outbox of committed changes several times a second (the *tail*), and
//! serves what it holds only while the last answer is within the caller's bound. A change that it
//! has found waits until Redis has its tombstone, and until then only newer values are taken from
//! there. Every step that a process takes in Redis moves a *mark*, and every read asks for the mark
//! beside the entries: so a server that lost steps is found out by the read itself. A stream of
//! announcements makes changes known to other processes in milliseconds; nothing depends on it.
//!
//! ```no_run
//! # use forebay_cache::{Cache, CacheError, Consistency, Entity, Loader};
//! # async fn example<E: Entity<Key = u64>, L: Loader<E>>(
//! #     config: &forebay_config::CacheConfig,
//! #     postgres: forebay_postgres::PgPool,
//! #     redis: forebay_redis::RedisPool,
//! #     loader: L,
//! # ) -> Result<(), CacheError<L::Error>> {
//! let cache = Cache::new(config, postgres, redis);
//! let tokens = cache.entity::<E, L>(&config.token, loader);
//! let lookup = tokens.get(&1, Consistency::default()).await?;
//! println!("{}: {:?}", lookup.outcome, lookup.value);
//! // After a commit that gave row 1 the version 42:
//! tokens.invalidate(&[(1, 42)]).await;
//! # Ok(())
//! # }
//! ```

mod cache;
mod chance;
mod changes;
mod clock;
mod entity;
mod entity_cache;
mod error;
mod l1;
mod l2;
mod lists;
mod metrics;
mod operators;
mod reads;
#[cfg(test)]
mod rig;
mod sync;

pub use cache::Cache;
pub use changes::outbox::REPLAYED;
pub use clock::WallClock;
pub use entity::{ChangedRow, DecodeError, Entity, Loader, Reach, Rows};
pub use entity_cache::EntityCache;
pub use error::CacheError;
pub use lists::list::{List, Page, PageLoader, Paged, Pages};
pub use lists::list_cache::{ListCache, PageLookup};
pub use lists::stored_page::StoredPage;
pub use operators::clear::Cleared;
pub use operators::inspect::{InspectError, Inspection, LevelEntry};
pub use operators::stats::{CacheStats, EntityStats, L2State};
pub use reads::lookup::{Ask, Consistency, Encoded, Entry, Lookup, Outcome};
pub use reads::warm_up::{WarmUp, WarmUpEnd};
