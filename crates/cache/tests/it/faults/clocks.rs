//! Clocks that are wrong by an hour and step while they are read: of the processes, of Redis, of
//! Postgres.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use forebay_cache::{Cache, L2State, REPLAYED, WallClock};
use forebay_config::{CacheConfig, EntityCacheConfig};
use forebay_postgres::Sql;
use forebay_redis::RedisPool;
use forebay_testkit::{PrivateRedis, redis_config};
use tokio::time::Instant;

use super::witness::Witness;
use super::{ask, config};
use crate::store::Store;
use crate::{HOUR, Replica, entity_config, eventually, report};

const HOUR_MS: i64 = 3_600_000;
/// Keys that change.
const CHANGED: u64 = 12;
/// How long the clocks step.
const RUN: Duration = Duration::from_secs(10);

/// A clock that is wrong by so many milliseconds, which others may change.
#[derive(Debug, Clone)]
struct Wrong(Arc<AtomicI64>);

impl Wrong {
    fn by(millis: i64) -> Self {
        Self(Arc::new(AtomicI64::new(millis)))
    }

    fn set(&self, millis: i64) {
        self.0.store(millis, SeqCst);
    }

    /// Steps somewhere within an hour of the right time.
    fn step(&self) {
        self.set(rand::random_range(-HOUR_MS..=HOUR_MS));
    }

    fn clock(&self) -> WallClock {
        let offset = Arc::clone(&self.0);
        WallClock::new(move || {
            let millis = offset.load(SeqCst);
            let by = Duration::from_millis(millis.unsigned_abs());
            if millis < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
        })
    }
}

/// A process whose clock is wrong.
fn replica(url: &str, store: &Store, cache: &CacheConfig, clock: &Wrong, ttl: Duration) -> Replica {
    let redis = RedisPool::new(&redis_config(url, "")).expect("settings");
    let cache = Cache::with_clock(cache, store.postgres(), redis.clone(), clock.clock());
    let entity = EntityCacheConfig { ttl, ..entity_config() };
    let rows = cache.entity(&entity, store.clone());
    Replica { cache, rows, redis }
}

/// The clock of Redis steps: what is to expire has that much less time left, or more.
async fn step_redis(server: &PrivateRedis, millis: i64) {
    let script = "for _, key in ipairs(redis.call('KEYS', '*')) do \
                  local left = redis.call('PTTL', key) \
                  if left > 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end end";
    ask(server, &format!("EVAL \"{script}\" 0 {millis}")).await;
}

/// Three processes, one an hour ahead, one an hour behind, all of them and Redis stepping at random,
/// while rows change and everybody reads. Fails without the tail, or if an entry is judged by the
/// time at which it was filled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_wrong_and_step_lose_no_change() {
    let server = PrivateRedis::start();
    let (store, witness) = (Store::new().await, Witness::default());
    for key in 0..CHANGED {
        witness.put(&store, key, "first").await;
    }
    let clocks = [Wrong::by(HOUR_MS), Wrong::by(-HOUR_MS), Wrong::by(0)];
    let mut replicas = Vec::new();
    for clock in &clocks {
        let one = replica(&server.url(), &store, &config(), clock, HOUR);
        replicas.push(one.l2_in_use(&store).await);
    }
    let watching = replicas.iter().map(|replica| witness.watch(&replica.rows, 0..CHANGED));
    let watching: Vec<_> = watching.collect();
    let (began, mut steps) = (Instant::now(), 0_u32);
    for round in 0_u64.. {
        if began.elapsed() >= RUN {
            break;
        }
        let key = round % CHANGED;
        let version = witness.put(&store, key, &format!("round {round}")).await;
        if round.is_multiple_of(3) {
            // The others are plain SQL, and nobody is told.
            replicas[usize::from(round.is_multiple_of(2))].rows.invalidate(&[(key, version)]).await;
        }
        for clock in &clocks {
            clock.step();
            steps += 1;
        }
        if round % 8 == 7 {
            step_redis(&server, rand::random_range(-HOUR_MS..=HOUR_MS)).await;
            steps += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    witness.end(watching).await;
    // No change is lost: once the bound is over, everybody has the last one.
    tokio::time::sleep(super::BOUND).await;
    for replica in &replicas {
        for key in 0..CHANGED {
            witness.read(&replica.rows, key).await;
        }
    }
    report(&format!("{steps} steps of clocks, {}", witness.summary()));
    assert!(steps > 50, "{steps} steps");
    for level in ["hit_l1", "hit_l2"] {
        assert!(witness.count(level) > 50, "both levels are in use, {}", witness.summary());
    }
}

/// Fails if what was filled by a clock that is behind is of no use in L1, or if what was filled by
/// one that is ahead never leaves it.
#[tokio::test]
async fn an_entry_of_a_wrong_clock_is_neither_immortal_nor_useless() {
    const TTL: Duration = Duration::from_secs(600);
    let server = PrivateRedis::start();
    let store = Store::new().await;
    let clock = Wrong::by(0);
    let a = replica(&server.url(), &store, &config(), &clock, TTL).l2_in_use(&store).await;
    let b = replica(&server.url(), &store, &config(), &Wrong::by(0), TTL).l2_in_use(&store).await;
    for (key, wrong_by, left) in
        [(1, -HOUR_MS, TTL / 10), (2, HOUR_MS, TTL), (3, 24 * HOUR_MS, TTL), (4, 0, TTL)]
    {
        let version = store.put(key, "row").await;
        clock.set(wrong_by);
        a.get(key).await;
        a.l2_version(key, version).await;
        assert_eq!(b.outcome(key).await, "hit_l2", "filled by a clock that is {wrong_by} ms off");
        let found = b.cache.inspect("row", &key.to_string()).await.expect("inspect");
        let in_l1 = found.l1.expect("in L1 now").time_to_live.expect("known");
        report(&format!("filled by a clock that is {wrong_by} ms off: {in_l1:?} left in L1"));
        assert!(in_l1 <= left, "{in_l1:?} left of {left:?}");
        assert!(in_l1 > left / 2, "{in_l1:?} left of {left:?}");
        assert_eq!(b.outcome(key).await, "hit_l1");
        // Whatever the process thinks, Redis counts its copy down by its own clock.
        let in_l2 = found.l2.expect("in L2").time_to_live.expect("known");
        assert!(in_l2 <= TTL, "{in_l2:?}");
    }
}

const CREATED: Sql = Sql::new(
    "UPDATE cache_outbox",
    "UPDATE cache_outbox SET created_at = created_at + make_interval(hours => $1)",
);

/// The clock of Postgres steps while no process runs. What Redis claims to have been told is then
/// older or younger than it seems. Fails if a claim that seems too young or old loses a change, and
/// if one that is old enough for the outbox to have been swept is believed.
#[tokio::test]
async fn a_claim_of_a_wrong_clock_loses_no_change() {
    // Hours by which the claim is ahead of the clock of Postgres now, and whether L2 stays in use.
    for (ahead, is_warm) in [(1, true), (-1, true), (5, true), (-7, false)] {
        let server = PrivateRedis::start();
        let store = Store::new().await;
        let versions = [store.put(1, "old").await, store.put(2, "untouched").await];
        let a = Replica::with(&server.url(), "", &store, &config(), &entity_config());
        let a = a.l2_in_use(&store).await;
        for (key, version) in [1, 2].into_iter().zip(versions) {
            a.get(key).await;
            a.l2_version(key, version).await;
        }
        let has_claimed = async || ask(&server, "GET cache-applied:row:3").await.contains("1 ");
        eventually("the data set claims something", has_claimed).await;
        drop(a);
        store.put(1, "new").await;
        let hours = if is_warm { -ahead.max(0) } else { -25 };
        store.postgres().execute(&CREATED, &[&hours]).await.expect("the clock of the rows");
        while REPLAYED.step(&store.postgres()).await.expect("swept") > 0 {}
        let shift = i64::from(ahead) * 3600;
        let script = "local claim = redis.call('GET', KEYS[1]) \
                      local at, rest = string.match(claim, '^1 (%d+)(.*)$') \
                      redis.call('SET', KEYS[1], '1 ' .. string.format('%d', at + ARGV[1]) .. rest)";
        let answer =
            ask(&server, &format!("EVAL \"{script}\" 1 cache-applied:row:3 {shift}")).await;
        assert!(!answer.contains("ERR"), "{answer}");
        let b = Replica::with(&server.url(), "", &store, &config(), &entity_config());
        let trusted = async || b.cache.stats().l2_state == L2State::Trusted;
        eventually("redis is trusted", trusted).await;
        assert_eq!(b.get(1).await.as_deref(), Some("new"), "the claim is {ahead} h ahead");
        let expected = if is_warm { "hit_l2" } else { "loaded" };
        assert_eq!(b.outcome(2).await, expected, "the claim is {ahead} h ahead");
        let given_up = b.cache.stats().l2_forgotten;
        report(&format!("a claim {ahead} h ahead: L2 is warm: {is_warm}, given up: {given_up:?}"));
        assert_eq!(given_up.is_empty(), is_warm, "{given_up:?}");
    }
}
