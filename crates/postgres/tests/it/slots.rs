//! A server that others have filled.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{PgError, PgPool, PgTransaction};
use forebay_testkit::postgres_config;
use tokio::time::Instant;

use crate::support::{ALONE, Fixture, SLEEP, ms};

/// Slots that the server grants to all connections of the role.
const SLOTS: u32 = 6;

/// A role of the test's own that may have so many connections.
struct Role<'a> {
    it: &'a Fixture,
    name: String,
}

impl<'a> Role<'a> {
    async fn create(it: &'a Fixture) -> Self {
        let (_, database) = it.database.url().rsplit_once('/').expect("a database");
        let name = format!("{database}_role");
        let create = format!("CREATE ROLE {name} LOGIN CONNECTION LIMIT {SLOTS}");
        let role = Self { it, name };
        role.run(&create).await;
        role
    }

    fn pool(&self, change: impl FnOnce(&mut forebay_config::PostgresConfig)) -> PgPool {
        let (_, host) = self.it.database.url().rsplit_once('@').expect("a user");
        let mut config = postgres_config(&format!("postgres://{}@{host}", self.name));
        config.connections_max = SLOTS;
        config.waiting_max = 500;
        change(&mut config);
        PgPool::new(&config, "it-slots").expect("a connection pool")
    }

    async fn drop(self) {
        let drop = format!("DROP ROLE {}", self.name);
        self.run(&drop).await;
    }

    async fn run(&self, statement: &str) {
        let admin = Maintenance::connect(self.it.database.url()).await.expect("a connection");
        admin.client().batch_execute(statement).await.expect("the role is changed");
        admin.close().await;
    }
}

async fn fill(pool: &PgPool, slots: u32) -> Vec<PgTransaction> {
    let all = (0..slots).map(|_| pool.begin());
    let all = futures_util::future::join_all(all).await;
    all.into_iter().map(|tx| tx.expect("a slot")).collect()
}

async fn wait_for(
    pool: &PgPool,
    what: &str,
    reached: impl Fn(u32, u32) -> bool,
) -> std::time::Duration {
    let started = Instant::now();
    loop {
        let stats = pool.stats();
        if reached(stats.permits, stats.connections) {
            return started.elapsed();
        }
        assert!(started.elapsed() < ms(30_000), "{what}: {stats:?}");
        tokio::time::sleep(ms(2)).await;
    }
}

/// Fails when the refusal is not told (the caller waits out its five seconds), when the size stays
/// at what the server does not grant, and when it does not grow again.
#[tokio::test]
async fn the_size_follows_what_the_server_grants() {
    let _alone = ALONE.lock().await;
    let it = Fixture::new(1).await;
    let role = Role::create(&it).await;
    let others = role.pool(|_| ());
    let ours = role.pool(|config| config.regrow_interval = ms(50));

    let mut held = fill(&others, SLOTS).await;
    let started = Instant::now();
    let error = ours.ready().await.expect_err("no slot is left");
    let told = started.elapsed();
    assert!(matches!(error, PgError::ServerSlots { .. }), "{error:?}");
    assert_eq!(error.sqlstate(), Some("53300"));
    assert!(told < ms(1000), "told only after {told:?}");
    wait_for(&ours, "shrunk to the least", |permits, _| permits == 1).await;

    // Two slots: more than that is asked for and refused, and nobody notices.
    for tx in held.drain(..2) {
        tx.rollback().await.expect("a rollback");
    }
    others.resize(4);
    let closed = Instant::now();
    while others.stats().connections > 4 {
        assert!(closed.elapsed() < ms(20_000), "{:?}", others.stats());
        tokio::time::sleep(ms(5)).await;
    }
    while let Err(error) = ours.ready().await {
        assert!(matches!(error, PgError::ServerSlots { .. }), "{error:?}");
        assert!(closed.elapsed() < ms(20_000), "{error:?}");
        tokio::time::sleep(ms(5)).await;
    }
    let workers: Vec<_> = (0..24)
        .map(|_| {
            let ours = ours.clone();
            tokio::spawn(async move {
                loop {
                    ours.query(&SLEEP, &[&0.01_f64]).await.expect("an answer");
                }
            })
        })
        .collect();
    let two = wait_for(&ours, "all that is granted", |_, connections| connections == 2).await;
    let before = ours.stats().connect_failures;
    wait_for(&ours, "one more was tried", |_, _| ours.stats().connect_failures > before).await;
    wait_for(&ours, "and given up", |permits, connections| permits <= 2 && connections <= 2).await;

    drop(held);
    others.drain(forebay_pooling::Deadline::after(ms(5000))).await;
    let all = wait_for(&ours, "grown again", |permits, connections| {
        permits == SLOTS && connections == SLOTS
    })
    .await;
    println!(
        "slots: 53300 told after {told:?}, two of two after {two:?}, six of six after {all:?}"
    );
    assert!(!workers.iter().any(tokio::task::JoinHandle::is_finished), "no worker failed");
    for worker in &workers {
        worker.abort();
    }
    for worker in workers {
        // Aborted, and nothing else: a panic would be an error seen by a worker.
        assert!(worker.await.expect_err("it never ends by itself").is_cancelled());
    }
    ours.drain(forebay_pooling::Deadline::after(ms(5000))).await;
    role.drop().await;
}

/// Fails when the limit is fixed at the start.
#[tokio::test]
async fn the_limit_can_be_changed_while_it_runs() {
    let it = Fixture::with(|config| {
        config.connections_max = 4;
        config.idle_timeout = ms(2000);
    })
    .await;
    drop(fill(&it.postgres, 4).await);
    it.wait_for_stats(|stats| stats.idle_connections == 4).await;
    assert_eq!(it.postgres.resize(2), 2);
    let two = fill(&it.postgres, 2).await;
    let third = it.postgres.begin();
    assert!(tokio::time::timeout(ms(50), third).await.is_err(), "two are all there are");
    // The visitor closes what may not be used any more.
    it.wait_for_stats(|stats| stats.connections == 2 && stats.connections_max == 2).await;
    assert_eq!(it.postgres.stats().closed.of(forebay_pooling::CloseReason::Shrunk), 2);
    drop(two);
    assert_eq!(it.postgres.resize(100), 4, "not more than was set at the start");
    fill(&it.postgres, 4).await;
}
