//! The two-level cache: moka in front of Redis in front of a loader.
//!
//! L1 is the process's own memory, L2 is Redis, shared by all replicas, and the loader reads the
//! store that holds the truth. An [`Entity`] binds a key type to a value type; an [`EntityCache`]
//! reads it. Each read says how old its answer may be ([`Consistency`]) and is told where the
//! answer came from ([`Outcome`]).
//!
//! # What is guaranteed
//!
//! A change is *announced* when Redis has executed its invalidation, normally one round trip after
//! [`EntityCache::invalidate`] was called.
//!
//! 1. **Bound.** A read with [`Consistency::Bounded`] that begins at `t` contains every change
//!    announced before `t - bound`, on every replica, whatever becomes of messages and connections.
//!    An L1 entry is served if it was read within the bound, or if the announcements have arrived
//!    without a gap since it was read, the last sign of life being within the bound. No clock of
//!    another machine takes part.
//! 2. **No resurrection.** A fill that began before an invalidation is stored neither in L1 (fence
//!    per key stripe) nor in L2 (versions compared by a script), however late it comes.
//! 3. **Own writes.** After `invalidate` was called, reads of the same process contain the change,
//!    also while Redis is down.
//! 4. **Outage.** While Redis is down, reads answer from L1 within the bound and from the store
//!    else; a failing L2 never fails a read. When Redis is back, nothing that was in it before is
//!    trusted: each process that saw the outage puts a new epoch in force before it reads from L2,
//!    and a restart of the server is noticed by its run id, also by a process that saw no outage.
//!    Changes made meanwhile are sent again until they are confirmed; when more than 65,536 wait,
//!    they are given up for a new epoch that all replicas are told of.
//! 5. **Damage.** An undecodable, truncated, altered or oversized entry, or one of another schema,
//!    is a miss.
//! 6. **Bounds.** L1 is bounded in bytes, over all entities, and keys that have no row have a bound
//!    of their own, so that a flood of them pushes no value out; one load per key is under way at a
//!    time; a caller who goes away harms nobody; a panicking loader is an error of those who wait.
//! 7. **Batches.** Misses that come together ask Redis together, and what it does not hold is
//!    loaded together: 1,000 reads of different keys at the same time cost a handful of round
//!    trips. A miss that comes alone waits for nobody; one that comes while others are under way
//!    waits for them, for about a millisecond at most.
//! 8. **Bulkhead.** No more than `loads_max` loads of an entity are under way at once, however slow
//!    the store is, and no more than `loads_waiting_keys_max` keys wait. Beyond that a read is stale
//!    if it may be, and [`CacheError::Overloaded`] if not.
//!
//! # What is not guaranteed
//!
//! - A change that was never announced is not seen before the time to live is over: the process
//!   died between its commit and the confirmation of Redis, or somebody changed the row without
//!   calling `invalidate`.
//! - While only the *writing* process cannot reach Redis, other replicas go on serving what they
//!   have until the writer reaches Redis again.
//! - A Redis that evicts keys early or loses acknowledged writes in a failover may lose a
//!   tombstone, and then a fill that is older than the change but arrives later is stored. Fills
//!   are given up after 30 s; tombstones live for 120 s.
//! - A process that starts while Redis hangs, and finishes connecting when it goes on, trusts L2
//!   until a process that saw the hang has come back (at most `backoff_max` later).
//! - The loader must read from a store that shows every committed change: a lagging replica of the
//!   database may fill an old version, which lives until the next invalidation.
//!
//! [`Consistency::Strict`] avoids all of these: it reads the store.
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

mod announce;
mod breaker;
mod cache;
mod clear;
mod collector;
mod entity;
mod entity_cache;
mod error;
mod fence;
mod fetch;
mod flight;
mod inspect;
mod link;
mod loads;
mod local;
mod lookup;
mod metrics;
mod misses;
mod outbox;
mod progress;
mod remote;
mod stats;
mod tail;
mod tally;
mod usage;
mod wire;

pub use cache::Cache;
pub use clear::Cleared;
pub use entity::{ChangedRow, DecodeError, Entity, Loader, Rows};
pub use entity_cache::EntityCache;
pub use error::CacheError;
pub use inspect::{InspectError, Inspection, LevelEntry};
pub use lookup::{Consistency, Entry, Lookup, Outcome};
pub use outbox::REPLAYED;
pub use stats::{CacheStats, EntityStats, L2State};
