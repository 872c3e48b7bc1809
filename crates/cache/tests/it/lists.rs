//! Pages of lists: every change of the table is seen, and nothing that was read before it comes back.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::time::Duration;

use forebay_cache::{Consistency, L2State, ListCache};
use forebay_config::{CacheConfig, ListCacheConfig};
use forebay_pooling::Deadline;
use forebay_postgres::Sql;
use forebay_testkit::{PrivateRedis, redis_prefix, redis_url};
use tokio::time::Instant;

use crate::store::{RowList, Store};
use crate::tail::{BOUND, config};
use crate::{BOUNDED, HOUR, Replica, cache_config, entity_config, eventually};

const INSERT: Sql = Sql::new("INSERT rows", "INSERT INTO rows (name, text) VALUES ($1, $2)");
const UPDATE: Sql = Sql::new("UPDATE rows", "UPDATE rows SET text = $2 WHERE name = $1");
const DELETE: Sql = Sql::new("DELETE rows", "DELETE FROM rows WHERE name = $1");
const TRUNCATE: Sql = Sql::new("TRUNCATE rows", "TRUNCATE rows");

/// One process that lists rows.
struct Lister {
    replica: Replica,
    list: ListCache<RowList, Store>,
}

impl Lister {
    fn start(url: &str, prefix: &str, store: &Store, config: &CacheConfig) -> Self {
        let replica = Replica::with(url, prefix, store, config, &entity_config());
        let list = replica.cache.list(store.clone());
        Self { replica, list }
    }

    /// L2 is in use, also for lists. The probe of it is a row of key `u64::MAX`.
    async fn new(url: &str, prefix: &str, store: &Store, config: &CacheConfig) -> Self {
        let Self { replica, list } = Self::start(url, prefix, store, config);
        Self { replica: replica.l2_in_use(store).await, list }
    }

    async fn page(&self, prefix: &str) -> String {
        self.read(prefix, BOUNDED).await.0
    }

    /// The page, and where it came from.
    async fn read(&self, prefix: &str, consistency: Consistency) -> (String, &'static str) {
        let found = self.list.page(&prefix.to_owned(), consistency).await.expect("answered");
        (found.page.value.text.clone(), found.outcome.as_str())
    }

    /// Waits until L2 holds the page, read after all that was changed.
    async fn l2_holds(&self, prefix: &str) {
        eventually("the page is in redis", async || {
            self.page(prefix).await;
            let inspected = self.replica.cache.inspect("row_list", prefix).await;
            inspected.is_ok_and(|entry| entry.l2.is_some())
        })
        .await;
    }

    /// Fills of L2 that were tried for pages.
    fn fills(&self) -> u64 {
        let stats = self.replica.cache.stats();
        let lists = stats.entities.iter().filter(|entity| entity.entity == "row_list");
        lists.flat_map(|entity| &entity.fills).map(|(_, count)| count).sum()
    }
}

/// Two processes on the shared server.
async fn two(store: &Store, config: &CacheConfig) -> [Lister; 2] {
    let (url, prefix) = (redis_url(), redis_prefix());
    let new = async || Lister::new(&url, &prefix, store, config).await;
    [new().await, new().await]
}

/// Asserts that every read of the page that began after the bound shows `expected`.
async fn seen_within_the_bound(listers: &[Lister], prefix: &str, expected: &str) -> Duration {
    let committed = Instant::now();
    for lister in listers {
        loop {
            let began = committed.elapsed();
            let (page, _) = lister.read(prefix, Consistency::Bounded(BOUND)).await;
            if page == expected {
                break;
            }
            assert!(began <= BOUND, "{page:?} instead of {expected:?} after {began:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    committed.elapsed()
}

/// Inserts, updates, deletes and truncates by plain SQL, which nobody announces; what pages show
/// longest after each.
async fn change_by_sql(listers: &[Lister], store: &Store) -> Duration {
    let run = async |sql: &Sql, values: &[&str]| {
        let values: Vec<&(dyn forebay_postgres::ToSql + Sync)> =
            values.iter().map(|value| -> &(dyn forebay_postgres::ToSql + Sync) { value }).collect();
        store.postgres().execute(sql, &values).await.expect("changed");
    };
    let mut longest = Duration::ZERO;
    run(&TRUNCATE, &[]).await;
    let steps: [(&Sql, &[&str], &str, &str); 6] = [
        (&INSERT, &["1", "xa"], "xa", "xa"),
        (&INSERT, &["2", "y"], "xa y", "xa"),
        (&UPDATE, &["2", "xb"], "xa xb", "xa xb"),
        (&UPDATE, &["1", "z"], "z xb", "xb"),
        (&DELETE, &["2"], "z", ""),
        (&TRUNCATE, &[], "", ""),
    ];
    for (sql, values, all, filtered) in steps {
        run(sql, values).await;
        longest = longest.max(seen_within_the_bound(listers, "", all).await);
        longest = longest.max(seen_within_the_bound(listers, "x", filtered).await);
    }
    longest
}

/// Fails if a page is served whatever has changed since, or if the tail tells lists nothing.
#[tokio::test]
async fn every_change_by_sql_is_seen_on_every_page_within_the_bound() {
    let store = Store::new().await;
    let listers = two(&store, &config()).await;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        longest = longest.max(change_by_sql(&listers, &store).await);
    }
    println!("changed by SQL, seen on pages of 2 replicas after {longest:?} at most");
}

/// Redis hangs, goes on, is flushed, dies, and comes back empty and with old data. Fails if the tail
/// needs Redis, or if what it held before is believed.
#[tokio::test]
async fn whatever_becomes_of_redis_no_page_is_older_than_the_bound() {
    let mut server =
        PrivateRedis::start_with(&[("appendonly", "yes"), ("appendfsync", "everysec")]);
    let store = Store::new().await;
    let config = CacheConfig { l2_timeout: Duration::from_millis(100), ..config() };
    let new = async || Lister::new(&server.url(), "", &store, &config).await;
    let listers = [new().await, new().await];
    for phase in ["up", "hanging", "going on", "dead", "back", "flushed"] {
        match phase {
            "hanging" => server.stop(),
            "going on" => server.cont(),
            "dead" => server.kill(),
            "back" => server.restart(),
            "flushed" => drop(crate::dataset::plain(&server, "FLUSHALL").await),
            _ => {}
        }
        let longest = change_by_sql(&listers, &store).await;
        println!("redis {phase}: seen on pages of 2 replicas after {longest:?} at most");
    }
}

/// Versions are drawn before the commit, so an older one may be committed later. Fails if a page is
/// taken to contain every change of a lower version than the newest it contains. Nobody else tells
/// this process of anything: what others announce together empties pages whatever its versions are.
/// And nothing in memory is too old for its reads, so only the change itself can end a page.
#[tokio::test]
async fn a_change_with_an_older_version_that_is_committed_later_is_seen() {
    let store = Store::new().await;
    let a = Lister::new(&redis_url(), &redis_prefix(), &store, &cache_config()).await;
    let at_hand = async |prefix: &str, expected: &str| {
        eventually("it is in memory", async || {
            a.read(prefix, BOUNDED).await == (expected.to_owned(), "hit_l1")
        })
        .await;
    };
    store.put(1, "x-one").await;
    at_hand("x", "x-one").await;
    let mut slow = store.postgres().begin().await.expect("a transaction");
    slow.execute(&UPDATE, &[&"1", &"x-late"]).await.expect("changed");
    // By its writer, and by the tail.
    let newer = store.put(2, "x-two").await;
    a.list.changed(&[newer]).await;
    at_hand("x", "x-one x-two").await;
    // Nothing that came before is told from here on: the page is empty until the tail tells the row.
    at_hand("y", "").await;
    store.put(3, "y").await;
    at_hand("y", "y").await;
    at_hand("x", "x-one x-two").await;
    slow.commit().await.expect("committed");
    eventually("the late change is seen", async || a.page("x").await == "x-late x-two").await;
}

/// R1 for pages, in the memory of the writer and, by another process, in Redis. Fails if a page
/// keeps the generation of its arrival, or if what L2 is filled with is not fenced.
#[tokio::test]
async fn a_slow_load_does_not_bring_back_a_page_from_before_a_change() {
    let store = Store::new().await;
    let [a, b] = two(&store, &cache_config()).await;
    store.put(1, "old").await;
    for reader in [&a, &b] {
        store.put(1, "old").await;
        a.list.changed(&[0]).await;
        eventually("the reader has heard", async || reader.page("old").await == "old").await;
        a.l2_holds("old").await;
        a.list.changed(&[0]).await;
        store.hold();
        let list = reader.list.clone();
        let slow =
            tokio::spawn(async move { list.page(&String::new(), Consistency::Strict).await });
        store.held().await;
        let version = store.put(1, "new").await;
        a.list.changed(&[version]).await;
        store.release();
        slow.await.expect("task").expect("answered");
        assert!(a.page("").await.starts_with("new"), "at once where it was changed");
        eventually("b has heard", async || b.page("").await.starts_with("new")).await;
    }
}

/// One process reads the page for all; after a change by SQL nobody takes it from Redis. Fails if a
/// change leaves the collection in Redis as it is.
#[tokio::test]
async fn a_page_in_redis_serves_others_until_the_table_changes() {
    let store = Store::new().await;
    let (url, prefix) = (redis_url(), redis_prefix());
    let new = async || Lister::new(&url, &prefix, &store, &config()).await;
    let a = new().await;
    store.put(1, "old").await;
    eventually("a has heard", async || a.page("old").await == "old").await;
    // The probe of a new process is a change too, so it comes before the page, and both must have
    // heard of it: what one still has to tell Redis makes every page there a miss.
    let b = new().await;
    let version = store.put(1, "old").await;
    for (name, lister) in [("a", &a), ("b", &b)] {
        eventually(&format!("{name} has heard of all that came before"), async || {
            let found = lister.list.page(&"none".to_owned(), BOUNDED.after(version)).await;
            found.expect("answered").outcome.as_str() == "hit_l1"
        })
        .await;
        assert!(lister.replica.cache.drain(Deadline::after(HOUR)).await, "redis is told");
    }
    a.l2_holds("old").await;
    assert_eq!(b.read("old", BOUNDED).await, ("old".to_owned(), "hit_l2"));
    store.put(1, "new").await;
    seen_within_the_bound(std::slice::from_ref(&a), "old", "").await;
    assert!(a.replica.cache.drain(Deadline::after(HOUR)).await, "redis is told");
    let c = Lister::start(&url, &prefix, &store, &config());
    eventually("redis is trusted", async || c.replica.cache.stats().l2_state == L2State::Trusted)
        .await;
    assert_eq!(c.page("old").await, "");
}

/// TRUNCATE names no row, so everything that Redis holds is given up. Fails if the collection
/// outlives the epoch.
#[tokio::test]
async fn a_page_in_redis_does_not_outlive_its_epoch() {
    let store = Store::new().await;
    let (url, prefix) = (redis_url(), redis_prefix());
    let a = Lister::new(&url, &prefix, &store, &config()).await;
    store.put(1, "old").await;
    eventually("a has heard", async || a.page("old").await == "old").await;
    a.l2_holds("old").await;
    // Whoever heard of it would soon put another page there.
    drop(a);
    store.postgres().execute(&TRUNCATE, &[]).await.expect("truncated");
    let c = Lister::start(&url, &prefix, &store, &config());
    eventually("redis is trusted", async || c.replica.cache.stats().l2_state == L2State::Trusted)
        .await;
    assert_eq!(c.page("old").await, "");
}

/// A table that changes all the time: its pages are read once for each change at most, and Redis is
/// not asked for them. Fails if pages are shared as soon as they are read.
#[tokio::test]
async fn pages_of_a_table_that_changes_all_the_time_cost_redis_nothing() {
    let store = Store::new().await;
    let list = ListCacheConfig { calm: HOUR, ..cache_config().list };
    let [a, _b] = two(&store, &CacheConfig { list, ..cache_config() }).await;
    let version = store.put(1, "first").await;
    a.list.changed(&[version]).await;
    let (fills, loads) = (a.fills(), store.loads());
    let mut reads = 0;
    for change in 0..50 {
        let version = store.put(1, &format!("row {change}")).await;
        a.list.changed(&[version]).await;
        for _ in 0..20 {
            assert!(a.page("").await.starts_with(&format!("row {change}")));
            reads += 1;
        }
    }
    let (fills, loads) = (a.fills() - fills, store.loads() - loads);
    println!("{reads} reads of a page beside 50 changes: {loads} loads, {fills} fills of redis");
    assert!(loads <= reads, "more than without a cache");
    assert_eq!(fills, 0, "pages were written to redis for nobody");
}

/// Fails if what pages take, or what is remembered, is not told where an operator looks.
#[tokio::test]
async fn what_lists_take_is_told() {
    let store = Store::new().await;
    let [a, b] = two(&store, &cache_config()).await;
    eventually("the page is in memory", async || a.read("", BOUNDED).await.1 == "hit_l1").await;
    let stats = a.replica.cache.stats();
    let list = stats.entities.iter().find(|entity| entity.entity == "row_list").expect("a list");
    assert!(stats.l1_list_bytes > 0 && stats.l1_list_bytes <= stats.l1_list_bytes_max, "{stats:?}");
    assert_eq!((stats.l1_list_bytes, 1), (list.l1_bytes, list.l1_entries));
    eventually("what b announces is remembered", async || {
        let version = store.put(1, "a row").await;
        b.list.changed(&[version]).await;
        let stats = a.replica.cache.stats();
        stats.announced > 0 && stats.announced <= stats.announced_max
    })
    .await;
}
