//! Reads from replicas: acceptance test 12 of the connection pools.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use forebay_config::Secret;
use forebay_postgres::{
    Consistency, Lsn, PgError, PgPool, ReplicaState, ReplicaStats, RouterStats, Sql,
};
use forebay_testkit::{PrivatePostgres, PrivateReplica, postgres_config};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::load::{Readers, Watch};
use self::relay::Relay;
use crate::support::ms;

mod failover;
mod load;
mod relay;

const TABLE: Sql = Sql::new("CREATE TABLE counters", "CREATE TABLE counters (value bigint)");
const ZERO: Sql = Sql::new("INSERT counters", "INSERT INTO counters VALUES (0)");
const COUNT_UP: Sql =
    Sql::new("UPDATE counters", "UPDATE counters SET value = value + 1 RETURNING value");
const VALUE: Sql = Sql::new("SELECT counters", "SELECT value FROM counters");
/// Long enough that readers meet.
const SLOW_VALUE: Sql =
    Sql::new("SELECT counters", "SELECT value FROM counters, pg_sleep(0.01) AS replica_test");

/// Connections of each connection pool. A fifth of them is for reads that no replica can answer.
const CONNECTIONS: u32 = 10;
const FALLBACK: i64 = 2;
/// How long anything may take that is expected to take a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// A primary with two replicas and a counter.
struct Fixture {
    primary: PrivatePostgres,
    replicas: [PrivateReplica; 2],
    postgres: PgPool,
}

impl Fixture {
    async fn start(parameters: &str) -> Self {
        Self::with(parameters, CONNECTIONS).await
    }

    /// With so many connections to each server.
    async fn with(parameters: &str, connections: u32) -> Self {
        let primary = PrivatePostgres::start().await;
        let replicas = [PrivateReplica::of(&primary), PrivateReplica::of(&primary)];
        let mut config = postgres_config(&primary.url());
        config.connections_max = connections;
        config.replica_urls = replicas
            .iter()
            .map(|replica| Secret::new(format!("{}{parameters}", replica.url())))
            .collect();
        let postgres = PgPool::new(&config, "replicas").expect("a connection pool");
        postgres.execute(&TABLE, &[]).await.expect("a table");
        postgres.execute(&ZERO, &[]).await.expect("a row");
        let it = Self { primary, replicas, postgres };
        let lsn = it.postgres.lsn().await.expect("a position");
        let is_ready = |replica: &ReplicaStats| is_level(replica) && replica.replayed >= lsn;
        it.wait_for(|stats| stats.replicas.iter().all(is_ready)).await;
        it
    }

    fn stats(&self) -> RouterStats {
        self.postgres.router_stats().expect("there are replicas")
    }

    /// Waits until the router sees what is expected.
    async fn wait_for(&self, expected: impl Fn(&RouterStats) -> bool) {
        let started = Instant::now();
        while !expected(&self.stats()) {
            assert!(started.elapsed() < PATIENCE, "it never comes to that: {:?}", self.stats());
            sleep(ms(5)).await;
        }
    }

    /// One more; the value and its token.
    async fn count_up(&self) -> (i64, Lsn) {
        let mut tx = self.postgres.begin().await.expect("a transaction");
        let value = tx.query_one(&COUNT_UP, &[]).await.expect("a row").get(0);
        let lsn = tx.commit_lsn().await.expect("a commit").expect("its position");
        (value, lsn)
    }

    async fn read(&self, consistency: Consistency) -> i64 {
        let reader = self.postgres.read_at(consistency);
        reader.query_one(&VALUE, &[]).await.expect("a row").get(0)
    }
}

fn is_level(replica: &ReplicaStats) -> bool {
    replica.state == ReplicaState::Following && replica.lag_bytes == 0
}

/// Fails when a replica is asked that has not come so far, and the position is not looked at again
/// together with the read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_with_a_token_are_never_stale() {
    let it = Arc::new(Fixture::start("").await);
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let clients: Vec<JoinHandle<u64>> = (0..4)
        .map(|_| {
            let (it, stop, reads) = (Arc::clone(&it), Arc::clone(&stop), Arc::clone(&reads));
            tokio::spawn(async move {
                let mut stale = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (written, lsn) = it.count_up().await;
                    // At once, and until some replica has come that far.
                    for _ in 0..20 {
                        let seen = it.read(Consistency::AtLeast(lsn)).await;
                        stale += u64::from(seen < written);
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                }
                stale
            })
        })
        .collect();
    for round in 0..4 {
        // One after the other falls behind and catches up.
        let replica = &it.replicas[round % 2];
        replica.pause_replay();
        it.wait_for(|stats| stats.replicas[round % 2].lag_bytes > 0).await;
        sleep(ms(200)).await;
        replica.resume_replay();
        it.wait_for(|stats| stats.replicas.iter().any(|replica| replica.lag_bytes < 100_000)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut stale = 0;
    for client in clients {
        stale += client.await.expect("the task ends");
    }
    // Whatever was written is on the replicas in the end, so they answer too.
    let (written, lsn) = it.count_up().await;
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.replayed >= lsn)).await;
    for _ in 0..100 {
        assert_eq!(it.read(Consistency::AtLeast(lsn)).await, written);
    }
    let stats = it.stats();
    let on_replicas: u64 = stats.replicas.iter().map(|replica| replica.reads).sum();
    let reads = reads.load(Ordering::Relaxed) + 100;
    println!("{reads} reads with a token, {on_replicas} of them on replicas: {stale} stale");
    assert!(stale == 0, "{stale} reads did not see what they had to");
    assert!(on_replicas >= 100, "{stats:?}");
    assert!(stats.replicas.iter().all(|replica| replica.reads > 0), "both are used: {stats:?}");
}

/// Fails when the position is not looked at again together with the read: what is known of a server
/// says nothing about the one that has taken its place since.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_in_the_place_of_another_is_not_believed() {
    let it = Fixture::start("").await;
    let relay = Relay::start(it.replicas[0].port()).await;
    let mut config = postgres_config(&it.primary.url());
    config.connections_max = CONNECTIONS;
    let through_relay =
        it.replicas[0].url().replace(&it.replicas[0].port().to_string(), &relay.port().to_string());
    config.replica_urls = vec![Secret::new(through_relay)];
    let postgres = PgPool::new(&config, "relayed").expect("a connection pool");
    let stats = || postgres.router_stats().expect("there is a replica").replicas;
    it.replicas[1].pause_replay();
    let (mut reads, mut stale) = (0_u32, 0_u32);
    for round in 0..10 {
        relay.lead_to(it.replicas[0].port());
        let (written, lsn) = it.count_up().await;
        let started = Instant::now();
        while stats()[0].replayed < lsn || stats()[0].state != ReplicaState::Following {
            assert!(started.elapsed() < PATIENCE, "round {round}: {:?}", stats());
            sleep(ms(5)).await;
        }
        let before = stats()[0].reads;
        let reader = postgres.read_at(Consistency::AtLeast(lsn));
        assert_eq!(reader.query_one(&VALUE, &[]).await.expect("a row").get::<_, i64>(0), written);
        assert_eq!(stats()[0].reads, before + 1, "the replica has answered");
        // The same address leads to the one that has stopped replaying.
        relay.lead_to(it.replicas[1].port());
        for _ in 0..20 {
            let seen: i64 = reader.query_one(&VALUE, &[]).await.expect("a row").get(0);
            stale += u32::from(seen < written);
            reads += 1;
        }
    }
    println!("{reads} reads with a token at an address that leads elsewhere: {stale} stale");
    assert!(stale == 0, "{stale} reads did not see what they had to");
}

/// Fails when what a replica has not replayed is not counted, or the time since the last look.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_are_no_older_than_they_may_be() {
    const BOUND: Duration = Duration::from_millis(1500);
    let it = Arc::new(Fixture::start("").await);
    let stop = Arc::new(AtomicBool::new(false));
    // When each value was known to be committed.
    let committed = Arc::new(parking_lot::Mutex::new(vec![Instant::now()]));
    let writer = tokio::spawn({
        let (it, stop, committed) = (Arc::clone(&it), Arc::clone(&stop), Arc::clone(&committed));
        async move {
            while !stop.load(Ordering::Relaxed) {
                it.count_up().await;
                committed.lock().push(Instant::now());
                sleep(ms(2)).await;
            }
        }
    });
    let reader = tokio::spawn({
        let (it, stop, committed) = (Arc::clone(&it), Arc::clone(&stop), Arc::clone(&committed));
        async move {
            let (mut reads, mut too_old) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) {
                let started = Instant::now();
                let seen = it.read(Consistency::Lagging(BOUND)).await;
                let next = usize::try_from(seen + 1).expect("a count");
                let missed = committed.lock().get(next).copied();
                too_old += u64::from(missed.is_some_and(|missed| missed + BOUND < started));
                reads += 1;
            }
            (reads, too_old)
        }
    });
    sleep(ms(300)).await;
    for replica in &it.replicas {
        replica.pause_replay();
    }
    // They have fallen behind by more than the bound, and every read has to leave them.
    let lagged = |stats: &RouterStats| stats.replicas.iter().all(|replica| replica.lag > BOUND);
    it.wait_for(lagged).await;
    let before: Vec<_> = it.stats().replicas.iter().map(|replica| replica.reads).collect();
    sleep(ms(300)).await;
    let after: Vec<_> = it.stats().replicas.iter().map(|replica| replica.reads).collect();
    assert_eq!(before, after, "none of them is asked while both lag");
    let started = Instant::now();
    for replica in &it.replicas {
        replica.resume_replay();
    }
    let is_back = |(now, after): (&ReplicaStats, &u64)| now.reads > after + 10;
    it.wait_for(|stats| stats.replicas.iter().zip(&after).any(is_back)).await;
    let back = started.elapsed();
    stop.store(true, Ordering::Relaxed);
    writer.await.expect("the task ends");
    let (reads, too_old) = reader.await.expect("the task ends");
    println!("{reads} reads that may be {BOUND:?} old, {too_old} older; back after {back:?}");
    assert_eq!(too_old, 0);
}

/// Fails when reads stay with a replica that is gone or frozen, when the primary takes all of them
/// at once, or when connections are opened beyond the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_move_away_from_replicas_that_die() {
    let it = Fixture::start("").await;
    let watch = Watch::start(&it.primary.url()).await;
    let readers = Readers::start(&it.postgres, 32);
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.reads > 50)).await;

    let started = Instant::now();
    it.replicas[0].kill();
    it.wait_for(|stats| stats.replicas[0].state == ReplicaState::Ejected).await;
    let ejected = started.elapsed();
    let moved = readers.goes_on().await;
    println!("killed: ejected after {ejected:?}, all readers went on after {moved:?}");

    // The other one is frozen: it takes statements and says nothing.
    let started = Instant::now();
    it.replicas[1].stop();
    it.wait_for(|stats| stats.replicas[1].state == ReplicaState::Ejected).await;
    let ejected = started.elapsed();
    let moved = readers.goes_on().await;
    println!("frozen: ejected after {ejected:?}, all readers went on after {moved:?}");
    // All of them are on the primary now, a few at a time.
    for _ in 0..3 {
        readers.goes_on().await;
    }
    let (highest, backends) = watch.highest();
    println!("highest on the primary: {highest} of {FALLBACK} such reads, {backends} backends");
    assert_eq!(highest, FALLBACK, "the share is used, and no more");
    assert!(backends <= i64::from(CONNECTIONS), "{backends} backends");

    let started = Instant::now();
    it.replicas[1].cont();
    it.wait_for(|stats| is_level(&stats.replicas[1])).await;
    let back = started.elapsed();
    let before = it.stats().replicas[1].reads;
    it.wait_for(|stats| stats.replicas[1].reads > before + 50).await;
    let on_replica = Watch::start(&it.replicas[1].url()).await;
    readers.goes_on().await;
    let (_, backends) = on_replica.highest();
    let (reads, errors) = readers.stop().await;
    println!("thawed: back after {back:?}; {backends} backends there; {reads} reads, {errors:?}");
    assert!(backends <= i64::from(CONNECTIONS), "{backends} backends on the replica");
    assert!(errors.is_empty(), "{errors:?}");
    assert!(it.postgres.drain(forebay_pooling::Deadline::after(PATIENCE)).await == 0);
}

/// Fails when a replica that was promoted goes on answering.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_promoted_replica_is_no_replica_any_more() {
    // As behind a transaction pooler: no statement has a name, nothing is kept in a session.
    let it = Fixture::start("?pgbouncer=true").await;
    let (written, lsn) = it.count_up().await;
    it.wait_for(|stats| stats.replicas.iter().all(|replica| replica.replayed >= lsn)).await;
    assert_eq!(it.read(Consistency::AtLeast(lsn)).await, written);

    it.replicas[0].promote();
    let mut stale = 0;
    let mut reads = 0_u32;
    let started = Instant::now();
    while it.stats().replicas[0].state != ReplicaState::Promoted {
        assert!(started.elapsed() < PATIENCE, "still a replica: {:?}", it.stats());
        // The promoted one does not get them.
        let (written, lsn) = it.count_up().await;
        stale += u32::from(it.read(Consistency::AtLeast(lsn)).await < written);
        reads += 1;
    }
    let noticed = started.elapsed();
    let before = it.stats().replicas[0].reads;
    for _ in 0..50 {
        let (written, lsn) = it.count_up().await;
        stale += u32::from(it.read(Consistency::AtLeast(lsn)).await < written);
        it.read(Consistency::Lagging(PATIENCE)).await;
        reads += 1;
    }
    let stats = it.stats();
    println!("promotion noticed after {noticed:?}; {reads} reads with a token, {stale} stale");
    assert_eq!(stale, 0);
    assert_eq!(stats.replicas[0].reads, before, "it is not asked any more");
    assert!(stats.replicas[1].reads > 0, "{stats:?}");
}

/// Fails when a statement that writes is sent to a replica.
#[tokio::test]
async fn writes_go_to_the_primary_whatever_is_asked_for() {
    let it = Fixture::start("").await;
    let relaxed = it.postgres.read_at(Consistency::Lagging(PATIENCE));
    let row = relaxed.query_one(&COUNT_UP, &[]).await.expect("a write");
    assert_eq!(row.get::<_, i64>(0), 1);
    let lsn = it.postgres.lsn().await.expect("a position");
    assert_eq!(it.read(Consistency::AtLeast(lsn)).await, 1);
    // One that begins like a read: the replica refuses, and the primary does it.
    const HIDDEN: Sql = Sql::new("SELECT nextval", "SELECT nextval('row_version')");
    relaxed.query_one(&HIDDEN, &[]).await.expect("a value");
    let failed = it.postgres.begin().await.expect("a transaction");
    let mut failed = failed;
    let refused = failed.query(&Sql::new("SELECT 1/0", "SELECT 1/0"), &[]).await;
    assert!(matches!(refused, Err(PgError::Database { .. })), "{refused:?}");
    let lost = failed.commit_lsn().await;
    assert!(matches!(lost, Err(PgError::TransactionFailed)), "{lost:?}");
}
