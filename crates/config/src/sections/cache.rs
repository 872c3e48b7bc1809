//! `[cache]`: the two-level cache.

use std::time::Duration;

use crate::reader::Reader;

/// The two-level cache of one process.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// Bytes that L1 may hold, keys and overhead included.
    pub l1_bytes_max: u64,
    /// Bytes that L1 may hold besides, of keys that have no row.
    pub l1_negative_bytes_max: u64,
    /// How long one Redis operation may take before the cache goes on without it.
    pub l2_timeout: Duration,
    /// How old an answer of a cache may be at most, whatever the caller allows.
    pub staleness_max: Duration,
    /// How often Postgres is asked what has changed.
    pub outbox_interval: Duration,
    /// How long the leave to read a row for all other processes is good for.
    pub lease_ttl: Duration,
    /// How long others wait for whoever has that leave before one of them reads the row as well.
    pub lease_wait: Duration,
    /// How early entries that are read often are refreshed, before they expire; zero for never.
    pub refresh_beta: f64,
    /// Share of its time to live by which an entry lives shorter at most, drawn for each.
    pub ttl_jitter: f64,
    /// Keys of each entity that a process loads when it starts because others read them often; zero
    /// for none.
    pub warm_up_keys: usize,
    /// How long a process that starts loads them at most before it says that it serves.
    pub warm_up_timeout: Duration,
    /// Share of the hits that are checked against Postgres.
    pub verify_share: f64,
    /// Hits that are checked in a second at most.
    pub verified_per_second_max: u32,
    /// Tokens.
    pub token: EntityCacheConfig,
    /// Liquidity pools.
    pub pool: EntityCacheConfig,
    /// Pages of lists.
    pub list: ListCacheConfig,
}

/// How long entries of one entity live.
#[derive(Debug, Clone)]
pub struct EntityCacheConfig {
    /// Time to live in both levels at most: each entry lives shorter by up to `ttl_jitter`.
    pub ttl: Duration,
    /// Time to live of "there is no such row".
    pub negative_ttl: Duration,
    /// Age up to which an entry is served when Postgres fails; zero if never.
    pub stale_max: Duration,
    /// Largest encoded value that is cached, in bytes.
    pub value_bytes_max: usize,
    /// Loads under way at once; what else is to be loaded waits and goes together.
    pub loads_max: usize,
    /// Keys that may wait to be loaded; one more is refused.
    pub loads_waiting_keys_max: usize,
}

/// How long pages of lists live, whatever they list.
#[derive(Debug, Clone)]
pub struct ListCacheConfig {
    /// Bytes that L1 may hold of pages, beside `l1_bytes_max`.
    pub l1_bytes_max: u64,
    /// Time to live in both levels at most: each page lives shorter by up to `ttl_jitter`.
    pub ttl: Duration,
    /// Age up to which a page is served when Postgres fails; zero if never.
    pub stale_max: Duration,
    /// Largest encoded page that is cached, in bytes.
    pub page_bytes_max: usize,
    /// Loads under way at once of one list.
    pub loads_max: usize,
    /// Pages that may wait to be loaded; one more is refused.
    pub loads_waiting_max: usize,
    /// How long a table must be unchanged before its pages are shared in Redis.
    pub calm: Duration,
}

impl CacheConfig {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let l1_bytes_max = reader.integer("cache.l1_bytes_max", 65_536..=1 << 40);
        let negative_bytes_max = reader.integer("cache.l1_negative_bytes_max", 4096..=1 << 40);
        let short = Duration::from_millis(1)..=Duration::from_secs(10);
        let l2_timeout = reader.duration("cache.l2_timeout", short);
        let trusted = Duration::from_millis(1)..=Duration::from_secs(3600);
        let staleness_max = reader.duration("cache.staleness_max", trusted);
        let often = Duration::from_millis(10)..=Duration::from_secs(10);
        let outbox_interval = reader.duration("cache.outbox_interval", often);
        let leases = Duration::from_millis(50)..=Duration::from_secs(60);
        let lease_ttl = reader.duration("cache.lease_ttl", leases);
        let waits = Duration::from_millis(1)..=Duration::from_secs(60);
        let lease_wait = reader.duration("cache.lease_wait", waits);
        let refresh_beta = reader.number("cache.refresh_beta", 0.0..=100.0);
        let ttl_jitter = reader.number("cache.ttl_jitter", 0.0..=0.5);
        let warm_up_keys = reader.integer("cache.warm_up_keys", 0..=4096);
        let warm_up = Duration::ZERO..=Duration::from_secs(60);
        let warm_up_timeout = reader.duration("cache.warm_up_timeout", warm_up);
        let verify_share = reader.ratio("cache.verify_share");
        let verified_per_second_max = reader.integer("cache.verified_per_second_max", 1..=1000);
        let token = EntityCacheConfig::read(reader, "cache.token");
        let pool = EntityCacheConfig::read(reader, "cache.pool");
        let list = ListCacheConfig::read(reader);
        Some(Self {
            l1_bytes_max: l1_bytes_max?,
            l1_negative_bytes_max: negative_bytes_max?,
            l2_timeout: l2_timeout?,
            staleness_max: staleness_max?,
            outbox_interval: outbox_interval?,
            lease_ttl: lease_ttl?,
            lease_wait: lease_wait?,
            refresh_beta: refresh_beta?,
            ttl_jitter: ttl_jitter?,
            warm_up_keys: warm_up_keys?,
            warm_up_timeout: warm_up_timeout?,
            verify_share: verify_share?,
            verified_per_second_max: verified_per_second_max?,
            token: token?,
            pool: pool?,
            list: list?,
        })
    }
}

impl EntityCacheConfig {
    fn read(reader: &mut Reader<'_>, section: &str) -> Option<Self> {
        let limits = Duration::from_millis(100)..=Duration::from_secs(30 * 86_400);
        let ttl = reader.duration(&format!("{section}.ttl"), limits.clone());
        let negative_ttl = reader.duration(&format!("{section}.negative_ttl"), limits);
        let stale = Duration::ZERO..=Duration::from_secs(86_400);
        let stale_max = reader.duration(&format!("{section}.stale_max"), stale);
        let bytes = 64..=64 << 20;
        let value_bytes_max = reader.integer(&format!("{section}.value_bytes_max"), bytes);
        let loads_max = reader.integer(&format!("{section}.loads_max"), 1..=1000);
        let keys = 1..=1_000_000;
        let waiting_keys_max = reader.integer(&format!("{section}.loads_waiting_keys_max"), keys);
        Some(Self {
            ttl: ttl?,
            negative_ttl: negative_ttl?,
            stale_max: stale_max?,
            value_bytes_max: value_bytes_max?,
            loads_max: loads_max?,
            loads_waiting_keys_max: waiting_keys_max?,
        })
    }
}

impl ListCacheConfig {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let l1_bytes_max = reader.integer("cache.list.l1_bytes_max", 4096..=1 << 40);
        let limits = Duration::from_millis(100)..=Duration::from_secs(30 * 86_400);
        let ttl = reader.duration("cache.list.ttl", limits);
        let stale = Duration::ZERO..=Duration::from_secs(86_400);
        let stale_max = reader.duration("cache.list.stale_max", stale);
        let page_bytes_max = reader.integer("cache.list.page_bytes_max", 64..=64 << 20);
        let loads_max = reader.integer("cache.list.loads_max", 1..=1000);
        let loads_waiting_max = reader.integer("cache.list.loads_waiting_max", 1..=1_000_000);
        let calm = Duration::ZERO..=Duration::from_secs(3600);
        let calm = reader.duration("cache.list.calm", calm);
        Some(Self {
            l1_bytes_max: l1_bytes_max?,
            ttl: ttl?,
            stale_max: stale_max?,
            page_bytes_max: page_bytes_max?,
            loads_max: loads_max?,
            loads_waiting_max: loads_waiting_max?,
            calm: calm?,
        })
    }
}
