//! Thousands of tasks of several processes want one key that nobody holds any more.

use std::process::{Command, Stdio};
use std::time::Duration;

use forebay_cache::CacheError;
use forebay_config::{CacheConfig, EntityCacheConfig};
use forebay_postgres::PgPool;
use forebay_testkit::{postgres_config, redis_prefix, redis_url};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::store::{Store, StoreDown};
use crate::{BOUNDED, Replica, cache_config, entity_config, eventually, report};

/// Tasks of each process.
const TASKS: usize = 2_000;
/// Longer than a load takes on a busy machine.
const WAIT: Duration = Duration::from_secs(5);
/// Nobody may be held up for longer.
const LEASE_TTL: Duration = Duration::from_secs(30);
const KILLED: &str = "FOREBAY_TEST_KILLED_LEADER";

type Answer = Result<Option<String>, CacheError<StoreDown>>;

fn process(prefix: &str, store: &Store, ttl: Duration) -> Replica {
    let cache = CacheConfig { lease_ttl: LEASE_TTL, lease_wait: WAIT, ..cache_config() };
    let entity = EntityCacheConfig { ttl, ..entity_config() };
    Replica::with(&redis_url(), prefix, store, &cache, &entity)
}

/// Processes with connection pools, memory and loaders of their own, which read key 1 until its
/// time to live is over everywhere.
async fn expired<const N: usize>(store: &Store) -> [(Replica, Store); N] {
    const TTL: Duration = Duration::from_millis(500);
    let prefix = redis_prefix();
    let mut processes = Vec::new();
    for _ in 0..N {
        let store = store.another();
        processes.push((process(&prefix, &store, TTL).l2_in_use(&store).await, store));
    }
    for (process, _) in &processes {
        assert_eq!(process.get(1).await.as_deref(), Some("one"));
    }
    tokio::time::sleep(2 * TTL).await;
    processes.try_into().unwrap_or_else(|_| unreachable!("N were made"))
}

fn storm(process: &Replica) -> Vec<JoinHandle<Answer>> {
    let read = |_| {
        let rows = process.rows.clone();
        tokio::spawn(async move {
            let lookup = rows.get(&1, BOUNDED).await?;
            Ok(lookup.value.map(|entry| entry.value.text.clone()))
        })
    };
    (0..TASKS).map(read).collect()
}

/// Waits for all tasks; how many were answered with the row, and how many with an error.
async fn answers(tasks: Vec<JoinHandle<Answer>>) -> (usize, usize) {
    let mut counts = (0, 0);
    for task in tasks {
        match task.await.expect("task") {
            Ok(text) => {
                assert_eq!(text.as_deref(), Some("one"));
                counts.0 += 1;
            }
            Err(_failed) => counts.1 += 1,
        }
    }
    counts
}

fn loads<const N: usize>(processes: &[(Replica, Store); N]) -> usize {
    processes.iter().map(|(_, store)| store.loads()).sum()
}

/// Fails if a lease keeps nobody from loading.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_load_an_expired_key_once() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let processes = expired::<3>(&store).await;
    let before = loads(&processes);
    processes.iter().for_each(|(_, store)| store.hold());
    let tasks: Vec<_> = processes.iter().flat_map(|(process, _)| storm(process)).collect();
    eventually("somebody loads", async || loads(&processes) > before).await;
    processes.iter().for_each(|(_, store)| store.release());
    let answered = answers(tasks).await;
    let sql = loads(&processes) - before;
    report(&format!("3 processes x {TASKS} tasks on one expired key: {sql} SQL"));
    assert_eq!((answered, sql), ((3 * TASKS, 0), 1), "SQL for one expired key");
}

/// Fails if the load ends with the caller who came first, or if its panic leaves the lease behind:
/// then the others wait for their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cancelled_or_panics_costs_one_more_load_at_most() {
    let store = Store::new().await;
    store.put(1, "one").await;
    for panics in [false, true] {
        let processes = expired::<3>(&store).await;
        let [(leader, of_leader), (b, _), (c, _)] = &processes;
        let before = loads(&processes);
        of_leader.hold();
        let rows = leader.rows.clone();
        let first = tokio::spawn(async move { rows.get(&1, BOUNDED).await });
        of_leader.held().await;
        let followers = storm(leader);
        let others: Vec<_> = [b, c].into_iter().flat_map(storm).collect();
        let began = Instant::now();
        if panics {
            of_leader.panic_when_released();
        } else {
            first.abort();
        }
        of_leader.release();
        let others = answers(others).await;
        let took = began.elapsed();
        let followers = answers(followers).await;
        let sql = loads(&processes) - before;
        let fate = if panics { "panicked" } else { "cancelled" };
        report(&format!("leader {fate}: {sql} SQL, the others were answered after {took:?}"));
        assert_eq!(others, (2 * TASKS, 0));
        assert_eq!(followers.0 + followers.1, TASKS, "every waiter is answered");
        assert_eq!(sql, if panics { 2 } else { 1 }, "SQL for one expired key");
        assert!(took < WAIT / 2, "they waited for a lease that nobody has: {took:?}");
    }
}

/// Not a test by itself: the leader, as a process of its own. It gets the lease, says so, and is
/// killed before it has the row.
#[tokio::test]
async fn the_leader() {
    let Ok(url) = std::env::var(KILLED) else { return };
    let set = |name: &str| std::env::var(format!("{KILLED}_{name}")).expect("set by the test");
    let postgres = PgPool::new(&postgres_config(&url), "killed-leader").expect("settings");
    let store = Store::on(postgres, None);
    let leader = process(&set("PREFIX"), &store, crate::HOUR).l2_in_use(&store).await;
    store.hold();
    let read = tokio::spawn(async move { leader.get(1).await });
    store.held().await;
    std::fs::write(set("HELD"), "held").expect("said");
    read.await.expect("never");
}

/// Fails without the turns of a lease: the others wait for as long as it lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_costs_one_more_load_and_a_short_wait() {
    let store = Store::new().await;
    store.put(1, "one").await;
    let prefix = redis_prefix();
    let stores = [store.another(), store.another()];
    let mut processes = Vec::new();
    for store in stores {
        let process = process(&prefix, &store, crate::HOUR).l2_in_use(&store).await;
        processes.push((process, store));
    }
    let processes: [(Replica, Store); 2] = processes.try_into().unwrap_or_else(|_| unreachable!());
    let held = std::env::temp_dir().join(format!("killed-leader-{}", std::process::id()));
    let mut leader = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "stampede::the_leader", "--nocapture"])
        .env(KILLED, store.url())
        .env(format!("{KILLED}_PREFIX"), &prefix)
        .env(format!("{KILLED}_HELD"), &held)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    eventually("the leader has the lease", async || held.exists()).await;
    leader.kill().expect("killed");
    leader.wait().expect("dead");
    std::fs::remove_file(&held).expect("removed");
    let (before, began) = (loads(&processes), Instant::now());
    let tasks: Vec<_> = processes.iter().flat_map(|(process, _)| storm(process)).collect();
    let answered = tokio::time::timeout(LEASE_TTL / 2, answers(tasks)).await;
    let took = began.elapsed();
    let answered = answered.expect("answered long before the lease is over");
    // The leader's own load is one of them.
    let sql = 1 + loads(&processes) - before;
    report(&format!("leader killed: {sql} SQL, 2 x {TASKS} tasks were answered after {took:?}"));
    assert_eq!((answered, sql), ((2 * TASKS, 0), 2), "SQL for one expired key");
}
