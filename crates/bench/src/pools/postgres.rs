//! One row by its primary key, from Postgres.

use anyhow::{Context as _, ensure};
use bb8_postgres::PostgresConnectionManager;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use forebay_postgres::{PgPool, PointReads, PointReadsBounds, Sql};
use sqlx::postgres::PgPoolOptions;
use tokio_postgres::NoTls;
use tokio_postgres::types::Type;

use crate::pools::external::{self, Tool};
use crate::pools::{BENCH, CONNECTIONS, Selection, bound, compare, named, settings};
use crate::report::{Goal, absent};
use crate::rounds::{Rounds, interleave};
use crate::side::Side;
use crate::versions;

const WHAT: &str = "SELECT by key";
/// Ours: one statement at a time on a connection, many at a time, and many keys a statement.
const OURS: &str = "PgPool::query_opt";
const PIPELINED_OURS: &str = "Sql::pipelined";
const BATCHED_OURS: &str = "PointReads::get";
/// No peer pipelines or batches; pgbench shows what the server does for one statement at a time.
const PIPELINED_WHAT: &str = "SELECT by key, ours pipelined";
const BATCHED_WHAT: &str = "SELECT by key, ours batched";
/// The table of pgbench at scale 1, and its statement.
const ROWS: i32 = 100_000;
const TEXT: &str = "SELECT abalance FROM pgbench_accounts WHERE aid = $1";
static SELECT: Sql = Sql::new("SELECT pgbench_accounts", TEXT);
static PIPELINED: Sql = Sql::new("SELECT pgbench_accounts", TEXT).pipelined();
/// The same lookup for many keys.
const SELECT_MANY: Sql = Sql::new(
    "SELECT pgbench_accounts",
    "SELECT aid, abalance FROM pgbench_accounts WHERE aid = ANY($1)",
);

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a call fails.
pub async fn measure(url: &str, selection: &Selection) -> anyhow::Result<()> {
    create_table(url).await.context("create the table")?;
    let mut sides = vec![
        // A connection pool each: connections that one way keeps to itself are no loss of another.
        ours(OURS, our_pool(url)?, &SELECT),
        ours(PIPELINED_OURS, our_pool(url)?, &PIPELINED),
        batched(our_pool(url)?),
        bb8_typed(url).await?,
        bb8_prepared(url).await?,
        deadpool(url)?,
        sqlx(url).await?,
    ];
    match Tool::from_env("PGBENCH") {
        Ok(tool) => sides.push(external::pgbench(tool, url).await?),
        Err(reason) => {
            eprintln!("  pgbench is absent: {reason}");
            println!("{}", absent(BENCH, WHAT, "pgbench", &reason));
        }
    }
    selection.narrow(&mut sides);
    for &tasks in &selection.tasks {
        let all = interleave(WHAT, &mut sides, tasks).await?;
        report(tasks, &all);
    }
    Ok(())
}

fn report(tasks: usize, all: &[Rounds]) {
    let of_ours = [OURS, PIPELINED_OURS, BATCHED_OURS];
    if let Some(ours) = named(all, OURS) {
        for peer in all.iter().filter(|side| !of_ours.contains(&side.name.as_str())) {
            let goal = peer.name.starts_with("deadpool").then_some(Goal::AtLeast(0.95));
            compare(WHAT, tasks, ours, peer, goal);
        }
        let longest = ours.figure(|figures| figures.waits.map(|waits| waits.max_us));
        if let (64, Some(longest)) = (tasks, longest) {
            bound(format!("{WHAT}, {tasks} tasks: longest wait"), "us", longest, 20_000.0);
        }
    }
    // Sharing needs callers that wait at the same time. The goal is that of the better way.
    let goal = (tasks >= 64).then_some(Goal::AtLeast(2.5));
    let ways = [(PIPELINED_WHAT, PIPELINED_OURS, None), (BATCHED_WHAT, BATCHED_OURS, goal)];
    for (what, name, goal) in ways {
        if let (Some(ours), Some(pgbench)) = (named(all, name), named(all, "pgbench")) {
            compare(what, tasks, ours, pgbench, goal);
        }
    }
}

/// The table that `pgbench -i` makes, but each balance is its key, so that a wrong row shows.
async fn create_table(url: &str) -> anyhow::Result<()> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let driver = tokio::spawn(connection);
    let text = format!(
        "DROP TABLE IF EXISTS pgbench_accounts, pgbench_branches;
         CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
         INSERT INTO pgbench_branches VALUES (1, 0, '');
         CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84))
             WITH (fillfactor = 100);
         INSERT INTO pgbench_accounts SELECT aid, 1, aid, '' FROM generate_series(1, {ROWS}) aid;
         ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)"
    );
    client.batch_execute(&text).await?;
    client.batch_execute("VACUUM (ANALYZE, FREEZE) pgbench_accounts").await?;
    drop(client);
    driver.await??;
    Ok(())
}

/// A key of the table, for a random number.
fn key(random: u32) -> i32 {
    1 + (random % ROWS.unsigned_abs()).cast_signed()
}

fn right(key: i32, balance: i32) -> anyhow::Result<()> {
    ensure!(key == balance, "row {balance} came for key {key}");
    Ok(())
}

fn our_pool(url: &str) -> anyhow::Result<PgPool> {
    let config = settings(&[
        format!("--postgres.url={url}"),
        format!("--postgres.connections_max={CONNECTIONS}"),
        format!("--postgres.connections_min={CONNECTIONS}"),
    ])?;
    Ok(PgPool::new(&config.postgres, "bench")?)
}

fn ours(name: &str, pool: PgPool, sql: &'static Sql) -> Side {
    Side::in_process(name, move |random| {
        let pool = pool.clone();
        async move {
            let key = key(random);
            let row = pool.query_opt(sql, &[&key]).await?.context("no row")?;
            right(key, row.try_get(0)?)
        }
    })
}

fn batched(pool: PgPool) -> Side {
    let reads: PointReads<i32, i32> =
        PointReads::new(pool, SELECT_MANY, PointReadsBounds::default(), |row| Ok(row.try_get(1)?));
    Side::in_process(BATCHED_OURS, move |random| {
        let reads = reads.clone();
        async move {
            let key = key(random);
            right(key, reads.get(key).await?.context("no row")?)
        }
    })
}

type Bb8 = bb8::Pool<PostgresConnectionManager<NoTls>>;

async fn bb8(url: &str) -> anyhow::Result<Bb8> {
    let manager = PostgresConnectionManager::new_from_stringlike(url, NoTls)?;
    Ok(bb8::Pool::builder().max_size(CONNECTIONS).min_idle(CONNECTIONS).build(manager).await?)
}

async fn bb8_typed(url: &str) -> anyhow::Result<Side> {
    let pool = bb8(url).await?;
    let name = format!("{} query_typed", versions::of("bb8-postgres"));
    Ok(Side::in_process(name, move |random| {
        let pool = pool.clone();
        async move {
            let key = key(random);
            let client = pool.get().await?;
            let row = client.query_typed_one(TEXT, &[(&key, Type::INT4)]).await?;
            right(key, row.try_get(0)?)
        }
    }))
}

async fn bb8_prepared(url: &str) -> anyhow::Result<Side> {
    let pool = bb8(url).await?;
    let name = format!("{} query", versions::of("bb8-postgres"));
    Ok(Side::in_process(name, move |random| {
        let pool = pool.clone();
        async move {
            let key = key(random);
            let client = pool.get().await?;
            let row = client.query_one(TEXT, &[&key]).await?;
            right(key, row.try_get(0)?)
        }
    }))
}

fn deadpool(url: &str) -> anyhow::Result<Side> {
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(url.parse()?, NoTls, config);
    let size = usize::try_from(CONNECTIONS)?;
    let pool = deadpool_postgres::Pool::builder(manager).max_size(size).build()?;
    let name = format!("{} prepare_cached", versions::of("deadpool-postgres"));
    Ok(Side::in_process(name, move |random| {
        let pool = pool.clone();
        async move {
            let key = key(random);
            let client = pool.get().await?;
            let statement = client.prepare_cached(TEXT).await?;
            let row = client.query_one(&statement, &[&key]).await?;
            right(key, row.try_get(0)?)
        }
    }))
}

async fn sqlx(url: &str) -> anyhow::Result<Side> {
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .min_connections(CONNECTIONS)
        .connect(url)
        .await?;
    Ok(Side::in_process(versions::of("sqlx"), move |random| {
        let pool = pool.clone();
        async move {
            let key = key(random);
            let balance: i32 = sqlx::query_scalar(TEXT).bind(key).fetch_one(&pool).await?;
            right(key, balance)
        }
    }))
}
