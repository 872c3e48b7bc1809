//! R5: a process reads a key from L2 while it changes it, and reads its own write.

use std::collections::BTreeMap;
use std::pin::pin;

use forebay_cache::{Cache, EntityCache};
use forebay_config::{PostgresConfig, RedisConfig};
use forebay_postgres::{PgPool, Sql};
use forebay_redis::RedisPool;
use forebay_testkit::{postgres_config, redis_config, redis_prefix, redis_url};
use futures_util::future::join_all;

use crate::store::{Row, Store};
use crate::{BOUNDED, cache_config, entity_config, eventually};

/// Keys that are raced for at once.
const KEYS: u64 = 1_000;
/// How often, in a test that nobody asks to run longer.
const ROUNDS: u64 = 20;
/// How often, by the environment: 100 makes 100,000 races.
const ROUNDS_WANTED: &str = "FOREBAY_TEST_OWN_WRITE_ROUNDS";
/// Connections of a process to either server.
const CONNECTIONS: u32 = 8;

const PUT_ALL: Sql = Sql::new(
    "INSERT rows",
    "INSERT INTO rows (name, text) SELECT name, $2 FROM unnest($1::text[]) AS name \
     ON CONFLICT (name) DO UPDATE SET text = EXCLUDED.text RETURNING name, version",
);

/// A process, and what its rows are called.
struct Writer {
    rows: EntityCache<Row, Store>,
    _cache: Cache,
}

impl Writer {
    async fn start(prefix: &str, store: &Store) -> Self {
        let redis = RedisConfig { lanes: CONNECTIONS, ..redis_config(&redis_url(), prefix) };
        let redis = RedisPool::new(&redis).expect("settings");
        let cache = Cache::new(&cache_config(), store.postgres(), redis);
        let rows = cache.entity(&entity_config(), store.clone());
        let trusted = async || cache.stats().l2_state == forebay_cache::L2State::Trusted;
        eventually("redis is trusted", trusted).await;
        Self { rows, _cache: cache }
    }
}

/// Commits a text for every key; the versions by key.
async fn commit(store: &Store, text: &str) -> Vec<(u64, i64)> {
    let names: Vec<_> = (0..KEYS).map(|key| key.to_string()).collect();
    let rows = store.postgres().query(&PUT_ALL, &[&names, &text]).await.expect("committed");
    let version_of = |row: &forebay_postgres::Row| {
        let name: &str = row.try_get(0).expect("a name");
        (name.parse().expect("a number"), row.try_get(1).expect("a version"))
    };
    rows.iter().map(version_of).collect()
}

/// One race: the version that the read before the write saw and from where, and whether one after it
/// saw an older one than was written.
async fn race(
    rows: &EntityCache<Row, Store>,
    key: u64,
    version: i64,
) -> (i64, &'static str, usize) {
    let seen = async || {
        let lookup = rows.get(&key, BOUNDED).await.expect("answered");
        let version = lookup.value.as_ref().expect("exists").value.version;
        (version, lookup.outcome.as_str())
    };
    let read = seen();
    let write = async {
        for _ in 0..key % 4 {
            tokio::task::yield_now().await;
        }
        let changes = [(key, version)];
        let mut telling = pin!(rows.invalidate(&changes));
        // Nobody has confirmed it, and the process knows it.
        let confirmed = futures_util::poll!(&mut telling).is_ready();
        let mut stale = usize::from(seen().await.0 < version);
        if !confirmed {
            telling.await;
        }
        stale += usize::from(seen().await.0 < version);
        stale
    };
    let ((read, outcome), stale) = futures_util::join!(read, write);
    let stale_after = usize::from(seen().await.0 < version);
    (read, outcome, stale + stale_after)
}

/// Fails if a value is taken from Redis before the tombstone is there, or if what was read before a
/// change may be stored in L1 after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_reads_its_own_writes_while_it_reads_from_redis() {
    let rounds =
        std::env::var(ROUNDS_WANTED).map_or(ROUNDS, |text| text.parse().expect("a number"));
    let owner = Store::new().await;
    let postgres = PostgresConfig { connections_max: CONNECTIONS, ..postgres_config(owner.url()) };
    let store = Store::on(PgPool::new(&postgres, "cache-test").expect("a url"), None);
    let prefix = redis_prefix();
    let [a, b] = [Writer::start(&prefix, &store).await, Writer::start(&prefix, &store).await];
    let redis = RedisPool::new(&redis_config(&redis_url(), &prefix)).expect("settings").shared();
    let names: Vec<_> = (0..KEYS).map(|key| format!("cache:row:3:{key}")).collect();
    let keys: Vec<_> = (0..KEYS).collect();
    let (mut stale, mut raced, mut from) = (0, 0, BTreeMap::new());
    for round in 0..rounds {
        // In L2, and not in the memory of the process that races.
        let old = commit(&store, &format!("{round} old")).await;
        a.rows.invalidate(&old).await;
        b.rows.invalidate(&old).await;
        b.rows.get_many(&keys, BOUNDED).await.expect("fills redis");
        eventually("redis holds them", async || {
            let held = redis.mget(&names).await.expect("mget");
            held.iter().flatten().filter(|stored| stored.starts_with(b"V")).count() == names.len()
        })
        .await;
        let new = commit(&store, &format!("{round} new")).await;
        let races = new.iter().map(|(key, version)| race(&a.rows, *key, *version));
        let old: BTreeMap<_, _> = old.into_iter().collect();
        for ((key, _), (read, outcome, wrong)) in new.iter().zip(join_all(races).await) {
            stale += wrong;
            raced += usize::from(outcome == "hit_l2" && old.get(key) == Some(&read));
            *from.entry(outcome).or_insert(0) += 1;
        }
    }
    let races = rounds * KEYS;
    crate::report(&format!(
        "{races} writes beside a read of the same key: {stale} of {} reads stale; {raced} of the \
         reads beside them saw the old version in redis ({from:?})",
        3 * races
    ));
    assert_eq!(stale, 0, "reads that missed their own process's write");
    assert!(raced > 0, "no read was beside its write: {from:?}");
}
