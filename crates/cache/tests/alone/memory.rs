//! What a process needs in memory, while it is read over far more keys than fit, and while Redis is
//! away and more changes come than may wait for it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use forebay_cache::{
    Cache, CacheStats, ChangedRow, DecodeError, Entity, EntityCache, L2State, Loader,
};
use forebay_postgres::{PgError, PgPool, Sql};
use forebay_redis::RedisPool;
use forebay_testkit::{PrivateRedis, TestDatabase, redis_config};
use tokio::time::Instant;

use crate::{BOUNDED, cache_config, entity_config, report};

/// Says to the child that it is one.
const CHILD: &str = "FOREBAY_TEST_MEMORY";
/// Keys there are.
const KEYS: f64 = 1e8;
/// Limits of L1.
const L1_BYTES: u64 = 64 << 20;
const NEGATIVE_BYTES: u64 = 1 << 20;
/// What the changes that wait may take: 65,536 of them at the most, and as many announcements that
/// are remembered; some 300 bytes each, in maps that may be half empty.
const CHANGES_BYTES: u64 = 65_536 * 2 * 350;
/// Bytes of a value.
const VALUE_BYTES: usize = 500;
/// Reads at once, and batches of them.
const BATCH: usize = 250;
const BATCHES: usize = 1200;
/// Changes of one commit, and commits. All keys are different: they overflow what may wait for Redis
/// four times.
const CHANGES: i64 = 20_000;
const COMMITS: i64 = 15;

/// The first key that is changed; nobody reads those else.
const FIRST_CHANGED: i64 = 100_000_001;

/// A row of the store: the version, and some bytes.
#[derive(Debug)]
struct Blob {
    version: i64,
    bytes: Vec<u8>,
}

impl Entity for Blob {
    type Key = i64;
    type Value = Self;
    const NAME: &'static str = "blob";
    const SOURCE: &'static str = "blob";
    const SCHEMA: u16 = 1;

    fn key_text(key: &i64) -> String {
        key.to_string()
    }

    fn parse_key(text: &str) -> Option<i64> {
        text.parse().ok()
    }

    fn key_of(row: ChangedRow<'_>) -> Option<i64> {
        row.key.parse().ok()
    }

    fn version(blob: &Self) -> i64 {
        blob.version
    }

    fn encode(blob: &Self) -> Bytes {
        [blob.version.to_be_bytes().as_slice(), &blob.bytes].concat().into()
    }

    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let (version, bytes) = bytes.split_first_chunk().ok_or_else(DecodeError::new)?;
        Ok(Self { version: i64::from_be_bytes(*version), bytes: bytes.to_vec() })
    }
}

/// Every key has a row; one number says which version all of them have.
const TABLE: &str = "CREATE TABLE generation (version bigint NOT NULL); \
                     INSERT INTO generation VALUES (1)";
const SELECT_BLOBS: Sql =
    Sql::new("SELECT blobs", "SELECT unnest($1::bigint[]), (SELECT version FROM generation)");
/// The changes of a commit, as the triggers of a table write them.
const CHANGE: Sql = Sql::new(
    "INSERT cache_outbox",
    "INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation) \
     SELECT 'blob', gen_random_uuid(), i::text, 2, 'upsert' \
     FROM generate_series($1::bigint, $2) i",
);
const GENERATION: Sql = Sql::new("UPDATE generation", "UPDATE generation SET version = 2");

struct Blobs(PgPool);

impl Loader<Blob> for Blobs {
    type Error = PgError;

    async fn load_many(&self, keys: Vec<i64>) -> Result<Vec<(i64, Blob)>, PgError> {
        let rows = self.0.query(&SELECT_BLOBS, &[&keys]).await?;
        let blob = |version| Blob { version, bytes: vec![7; VALUE_BYTES] };
        Ok(rows.iter().map(|row| (row.get(0), blob(row.get(1)))).collect())
    }
}

/// Bytes of this process that are in memory now, and at most so far.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("it is there");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes << 10
    };
    (bytes("VmRSS:"), bytes("VmHWM:"))
}

/// A key as readers ask for them: the n-th most wanted one is wanted 1/n times as often.
#[expect(clippy::cast_possible_truncation, reason = "the keys are far below 2^53")]
#[expect(clippy::as_conversions, reason = "no other conversion of a float exists")]
fn zipf() -> i64 {
    (rand::random::<f64>() * KEYS.ln()).exp() as i64
}

/// Everything that has a limit is within it.
fn within_limits(stats: &CacheStats) {
    assert!(stats.l1_bytes <= L1_BYTES + NEGATIVE_BYTES, "{stats:?}");
    assert!(stats.pending <= stats.pending_max, "{stats:?}");
    for entity in &stats.entities {
        assert!(entity.loads_in_flight <= entity.loads_max, "{stats:?}");
        assert!(entity.keys_waiting <= entity.keys_waiting_max, "{stats:?}");
        assert!(entity.reads_in_flight <= entity.keys_waiting_max + BATCH, "{stats:?}");
    }
}

/// The process whose memory is measured, with servers of its own.
struct Measured {
    cache: Cache,
    blobs: EntityCache<Blob, Blobs>,
    postgres: PgPool,
    redis: RedisPool,
    server: PrivateRedis,
    _database: TestDatabase,
}

impl Measured {
    async fn start() -> Self {
        // Its data come back with it, as after an outage.
        let server = PrivateRedis::start_with(&[
            ("appendonly", "yes"),
            ("maxmemory", "64mb"),
            ("maxmemory-policy", "volatile-lru"),
        ]);
        let database = forebay_testkit::database().await;
        database.connect().await.client().batch_execute(TABLE).await.expect("a table");
        let postgres = database.pool();
        let redis = RedisPool::new(&redis_config(&server.url(), "")).expect("settings");
        let mut config = cache_config(Duration::from_millis(300));
        config.l1_bytes_max = L1_BYTES;
        config.l1_negative_bytes_max = NEGATIVE_BYTES;
        let cache = Cache::new(&config, postgres.clone(), redis.clone());
        let blobs = cache.entity::<Blob, _>(&entity_config(), Blobs(postgres.clone()));
        Self { cache, blobs, postgres, redis, server, _database: database }
    }

    async fn trusted(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.cache.stats().l2_state != L2State::Trusted {
            assert!(Instant::now() < until, "redis is never trusted: {:?}", self.cache.stats());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn read(&self) {
        let keys: Vec<i64> = (0..BATCH).map(|_| zipf()).collect();
        self.blobs.get_many(&keys, BOUNDED).await.expect("no read fails");
        within_limits(&self.cache.stats());
    }

    async fn epoch(&self) -> Bytes {
        let epoch = self.redis.shared().get("cache-epoch:blob:1").await.expect("get");
        epoch.expect("an epoch")
    }

    /// Reads all the while more changes are committed than may wait for Redis, several times.
    async fn flood(&self) {
        let is_over = AtomicBool::new(false);
        let reads = async {
            while !is_over.load(SeqCst) {
                self.read().await;
            }
        };
        let flood = async {
            for commit in 0..COMMITS {
                let first = FIRST_CHANGED + commit * CHANGES;
                let mut tx = self.postgres.begin().await.expect("a transaction");
                tx.execute(&GENERATION, &[]).await.expect("updated");
                tx.execute(&CHANGE, &[&first, &(first + CHANGES - 1)]).await.expect("changed");
                tx.commit().await.expect("committed");
                let committed = Instant::now();
                let is_applied = |ago| ago < committed.elapsed();
                while !self.cache.stats().caught_up_ago.is_some_and(is_applied) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            is_over.store(true, SeqCst);
        };
        futures_util::join!(reads, flood);
    }
}

/// Not a test by itself: what the process does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let mut process = Measured::start().await;
    process.trusted().await;
    process.read().await;
    let (base, _) = resident();
    for _ in 0..BATCHES {
        process.read().await;
    }
    let (full, _) = resident();
    let stats = process.cache.stats();
    assert!(stats.l1_bytes > L1_BYTES * 9 / 10, "L1 is full: {stats:?}");

    // In Redis in their first version; the flood changes them.
    let witnesses: Vec<i64> = (0..200).map(|number| FIRST_CHANGED + number * 997).collect();
    process.blobs.get_many(&witnesses, BOUNDED).await.expect("read");
    let last = format!("cache:blob:1:{}", witnesses[199]);
    while process.redis.shared().get(&last).await.expect("get").is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let epoch = process.epoch().await;
    process.server.kill();
    process.flood().await;
    let stats = process.cache.stats();
    let full_of_changes = stats.l2_forgotten.iter().find(|(why, _)| *why == "pending_full");
    let overflows = full_of_changes.map_or(0, |(_, count)| *count);
    assert!(overflows >= 3, "more changes than may wait came several times: {stats:?}");
    let (flooded, peak) = resident();
    process.server.restart();
    process.trusted().await;
    assert_ne!(process.epoch().await, epoch, "changes were given up and the epoch is the same");
    for found in process.blobs.get_many(&witnesses, BOUNDED).await.expect("read") {
        assert_eq!(found.value.expect("exists").version, 2, "a change is lost");
    }
    judge([base, full, flooded, peak], overflows);
}

/// What was in memory at first, with L1 full, after the flood, and at most.
fn judge([base, full, flooded, peak]: [u64; 4], overflows: u64) {
    let room = (L1_BYTES + NEGATIVE_BYTES) * 11 / 10;
    let all = room + CHANGES_BYTES;
    let mib = |bytes: u64| bytes >> 20;
    report(&format!(
        "resident: {} MiB at first, {} more with L1 full (may be {}), {} more after {} changes \
         without Redis ({overflows} times more than may wait), {} more at most (may be {})",
        mib(base),
        mib(full.saturating_sub(base)),
        mib(room),
        mib(flooded.saturating_sub(base)),
        CHANGES * COMMITS,
        mib(peak.saturating_sub(base)),
        mib(all)
    ));
    assert!(full <= base + room, "L1 takes more than it may");
    assert!(peak <= base + all, "all takes more than it may");
}

/// Fails if L1 is not bounded by the bytes of its entries, or if changes that do not fit are dropped
/// without a new epoch.
#[tokio::test]
async fn memory_stays_within_its_limits_and_no_change_is_dropped() {
    let process = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "memory::the_process", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a process");
    let said = String::from_utf8_lossy(&process.stderr);
    let panicked = String::from_utf8_lossy(&process.stdout);
    for line in said.lines().filter(|line| line.starts_with("resident")) {
        report(line);
    }
    assert!(process.status.success(), "{said}\n{panicked}");
}
