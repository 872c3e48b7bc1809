//! Whatever is found in Redis, the answer is right.

use bytes::Bytes;
use forebay_cache::{Cache, ChangedRow, DecodeError, Entity, Loader};

use crate::store::{Row, Store, StoreDown};
use crate::{BOUNDED, HOUR, cache_config, entity_config, eventually, replicas};

/// What the next release stores below the same keys, in a form that this one would misread.
#[derive(Debug)]
struct NextRow;

impl Entity for NextRow {
    type Key = u64;
    type Value = Row;
    const NAME: &'static str = Row::NAME;
    const SOURCE: &'static str = Row::SOURCE;
    const SCHEMA: u16 = Row::SCHEMA + 1;

    fn key_text(key: &u64) -> String {
        Row::key_text(key)
    }

    fn parse_key(text: &str) -> Option<u64> {
        Row::parse_key(text)
    }

    fn key_of(row: ChangedRow<'_>) -> Option<u64> {
        Row::key_of(row)
    }

    fn version(row: &Row) -> i64 {
        row.version
    }

    fn encode(row: &Row) -> Bytes {
        Bytes::from(format!("{} next {}", row.version, row.text))
    }

    fn decode(bytes: Bytes) -> Result<Row, DecodeError> {
        Row::decode(bytes)
    }
}

impl Loader<NextRow> for Store {
    type Error = StoreDown;

    async fn load_many(&self, keys: Vec<u64>) -> Result<Vec<(u64, Row)>, StoreDown> {
        Loader::<Row>::load_many(self, keys).await
    }
}

/// Two releases share one Redis during a deployment. Fails if the schema is not compared.
#[tokio::test]
async fn entries_of_another_schema_are_misses() {
    let store = Store::new().await;
    let version = store.put(1, "one").await;
    let absent = 2;
    let [b] = replicas(&store).await;
    let newer = Cache::new(&cache_config(), store.postgres(), b.redis.clone());
    let next = newer.entity::<NextRow, _>(&entity_config(), store.clone());
    for (key, version) in [(1, version), (absent, 0)] {
        eventually("the newer release has filled", async || {
            newer.evict("row", &key.to_string()).await.expect("evict");
            next.get(&key, BOUNDED).await.expect("get");
            let inspected = newer.inspect("row", &key.to_string()).await.expect("inspect");
            let filled = inspected.l2.is_some_and(|l2| l2.age.is_some() && l2.version == version);
            // A tombstone of nothing leaves nothing.
            filled || (version == 0 && inspected.l2.is_some_and(|l2| l2.age.is_some()))
        })
        .await;
    }
    assert_eq!((b.outcome(1).await, b.outcome(absent).await), ("loaded", "absent"));
    assert_eq!(b.get(1).await.as_deref(), Some("one"));
}

/// Each damaged value would be served, or be an error, if its check were missing.
#[tokio::test]
async fn damaged_entries_are_misses() {
    let store = Store::new().await;
    let version = store.put(1, "right").await;
    let [a] = replicas(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    let redis = a.redis.shared();
    let good = redis.get("cache:row:3:1").await.expect("get").expect("filled");
    for (what, value) in damaged(&good) {
        redis.set_px("cache:row:3:1", &value, HOUR).await.expect("set");
        let [b] = same_keys(&a, &store).await;
        assert_eq!(b.outcome(1).await, "loaded", "{what}");
        assert_eq!(b.get(1).await.as_deref(), Some("right"), "{what}");
    }
    // The undamaged one is a hit, so the test does tell the difference.
    redis.set_px("cache:row:3:1", &good, HOUR).await.expect("set");
    let [b] = same_keys(&a, &store).await;
    assert_eq!(b.outcome(1).await, "hit_l2");
}

async fn same_keys(a: &crate::Replica, store: &Store) -> [crate::Replica; 1] {
    let prefix = a.redis.prefixed("");
    let url = forebay_testkit::redis_url();
    [crate::Replica::new(&url, &prefix, store).l2_in_use(store).await]
}

fn damaged(good: &Bytes) -> Vec<(&'static str, Vec<u8>)> {
    let text = String::from_utf8_lossy(good).into_owned();
    let of_body = |change: fn(&mut [u8])| {
        let mut value = good.to_vec();
        let body = value.len() - 5;
        change(&mut value[body..]);
        value
    };
    vec![
        ("empty", Vec::new()),
        ("garbage", b"\x00\xff\xfe garbage".to_vec()),
        ("truncated", good[..good.len() - 3].to_vec()),
        ("longer", [good, b"!".as_slice()].concat()),
        ("altered", of_body(|body| body.copy_from_slice(b"wrong"))),
        ("another kind", text.replacen('V', "N", 1).into_bytes()),
        ("huge", vec![b'V'; 1 << 20]),
    ]
}

/// The version of a row that does not exist comes from Redis, so a damaged one would outlive the
/// row's creation. Fails if a version is believed that no checksum covers: without that of tombstones
/// in L2 and from then on in L1, without the deletion of damaged entries the same.
#[tokio::test]
async fn a_damaged_version_is_not_believed() {
    const ABSENT: u64 = 7;
    let store = Store::new().await;
    let version = store.put(1, "right").await;
    let [a] = replicas(&store).await;
    a.get(1).await;
    a.l2_version(1, version).await;
    let redis = a.redis.shared();
    let value = redis.get("cache:row:3:1").await.expect("get").expect("filled");
    let changed = store.put(1, "changed").await;
    a.rows.invalidate(&[(1, changed)]).await;
    let tombstone = redis.get("cache:row:3:1").await.expect("get").expect("a tombstone");
    for (number, sound) in [value, tombstone].into_iter().enumerate() {
        assert_eq!(sound.first(), Some(&[b'V', b'T'][number]));
        // One bit of the version: it is higher than any that the row will have.
        let mut damaged = sound.to_vec();
        damaged[4] ^= 0x04;
        let key = ABSENT + u64::try_from(number).expect("small");
        let name = format!("cache:row:3:{key}");
        redis.set_px(&name, &damaged, HOUR).await.expect("set");
        assert_eq!(a.get(key).await, None);
        eventually("that there is no such row is in redis", async || {
            let stored = redis.get(&name).await.expect("get");
            stored.is_some_and(|stored| stored.starts_with(b"N0000000000000000"))
        })
        .await;
        let created = store.put(key, "created").await;
        a.rows.invalidate(&[(key, created)]).await;
        assert_eq!(a.get(key).await.as_deref(), Some("created"), "damaged: {sound:?}");
        a.l2_version(key, created).await;
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced() {
    let store = Store::new().await;
    let version = store.put(1, "right").await;
    let [a] = replicas(&store).await;
    let mut lease = a.redis.dedicated().await.expect("lease");
    let push = forebay_redis::Command::new("RPUSH").key("cache:row:3:1").arg("x");
    lease.call(&push, HOUR).await.expect("push");
    assert_eq!(a.get(1).await.as_deref(), Some("right"));
    a.l2_version(1, version).await;
    lease.call(&forebay_redis::Command::new("DEL").key("cache:row:3:1"), HOUR).await.expect("del");
    lease.call(&push, HOUR).await.expect("push");
    let version = store.put(1, "changed").await;
    a.rows.invalidate(&[(1, version)]).await;
    assert_eq!(a.get(1).await.as_deref(), Some("changed"));
    a.l2_version(1, version).await;
}

/// A server that lost everything also lost the epoch; it is used again once one is in force.
#[tokio::test]
async fn a_flushed_server_is_used_again() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let server = forebay_testkit::PrivateRedis::start();
    let a = crate::Replica::new(&server.url(), "", &store).l2_in_use(&store).await;
    let mut lease = a.redis.dedicated().await.expect("lease");
    lease.call(&forebay_redis::Command::new("FLUSHALL"), HOUR).await.expect("flush");
    let a = a.l2_in_use(&store).await;
    assert_eq!(a.get(1).await.as_deref(), Some("one"));
}
