//! A value of 100 bytes, from Redis.

use anyhow::{Context as _, ensure};
use bb8_redis::RedisConnectionManager;
use bytes::Bytes;
use forebay_redis::RedisPool;
use fred::interfaces::{ClientLike as _, KeysInterface as _};
use redis::AsyncCommands as _;

use crate::pools::external::{self, Tool};
use crate::pools::{BENCH, CONNECTIONS, Selection, bound, compare, ioredis, named, settings};
use crate::report::{Goal, absent};
use crate::rounds::{Rounds, interleave};
use crate::side::Side;
use crate::versions;

const WHAT: &str = "GET of 100 B";
const OURS: &str = "RedisPool::shared";
/// Keys; named as redis-benchmark names them.
pub const KEYS: u32 = 1000;
/// Bytes of a value.
const VALUE_BYTES: usize = 100;

/// Measures and reports.
///
/// # Errors
/// When a side cannot be set up, or a call fails.
pub async fn measure(url: &str, selection: &Selection) -> anyhow::Result<()> {
    fill(url).await.context("set the keys")?;
    let mut sides = vec![ours(url)?, bb8(url).await?, multiplexed(url).await?, fred(url).await?];
    match ioredis::side(url, KEYS, VALUE_BYTES).await {
        Ok(side) => sides.push(side),
        Err(reason) => tell_absent("ioredis", &format!("{reason:#}")),
    }
    match Tool::from_env("REDIS_BENCHMARK") {
        Ok(tool) => {
            sides.push(external::redis_benchmark(tool.clone(), url, KEYS, 1).await?);
            sides.push(external::redis_benchmark(tool, url, KEYS, 16).await?);
        }
        Err(reason) => tell_absent("redis-benchmark", &reason),
    }
    selection.narrow(&mut sides);
    for &tasks in &selection.tasks {
        let all = interleave(WHAT, &mut sides, tasks).await?;
        report(tasks, &all);
    }
    Ok(())
}

fn tell_absent(peer: &str, reason: &str) {
    eprintln!("  {peer} is absent: {reason}");
    println!("{}", absent(BENCH, WHAT, peer, reason));
}

fn report(tasks: usize, all: &[Rounds]) {
    let Some(ours) = named(all, OURS) else { return };
    for peer in all.iter().filter(|side| side.name != OURS) {
        let goal = match peer.name.split(' ').next() {
            Some("redis") => Some(Goal::AtLeast(0.95)),
            Some("fred") => Some(Goal::AtLeast(1.0)),
            // Sharing a connection pays when there is somebody to share it with.
            Some("bb8-redis") if tasks >= 64 => Some(Goal::AtLeast(8.0)),
            _ => None,
        };
        compare(WHAT, tasks, ours, peer, goal);
    }
    let p999 = ours.figure(|figures| figures.waits.and_then(|waits| waits.p999_us));
    if let (512, Some(p999)) = (tasks, p999) {
        bound(format!("{WHAT}, {tasks} tasks: p99.9 wait"), "us", p999, 10_000.0);
    }
}

async fn fill(url: &str) -> anyhow::Result<()> {
    let mut connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    for number in 0..KEYS {
        let _: () = connection.set(key(number), [b'x'; VALUE_BYTES].as_slice()).await?;
    }
    Ok(())
}

/// A key, for a random number.
fn key(random: u32) -> String {
    format!("key:{:012}", random % KEYS)
}

fn right(value: Option<&[u8]>) -> anyhow::Result<()> {
    let length = value.map_or(0, <[u8]>::len);
    ensure!(length == VALUE_BYTES, "{length} bytes came");
    Ok(())
}

fn ours(url: &str) -> anyhow::Result<Side> {
    let flags = [format!("--redis.url={url}"), "--redis.key_prefix=".to_owned()];
    let pool = RedisPool::new(&settings(&flags)?.redis)?;
    let shared = pool.shared();
    Ok(Side::in_process(OURS, move |random| {
        let shared = shared.clone();
        async move { right(shared.get(&key(random)).await?.as_deref()) }
    }))
}

async fn bb8(url: &str) -> anyhow::Result<Side> {
    let manager = RedisConnectionManager::new(url)?;
    let pool =
        bb8::Pool::builder().max_size(CONNECTIONS).min_idle(CONNECTIONS).build(manager).await?;
    Ok(Side::in_process(format!("{} checkout", versions::of("bb8-redis")), move |random| {
        let pool = pool.clone();
        async move {
            let mut connection = pool.get().await?;
            let value: Option<Bytes> = connection.get(key(random)).await?;
            right(value.as_deref())
        }
    }))
}

async fn multiplexed(url: &str) -> anyhow::Result<Side> {
    let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
    let name = format!("{} MultiplexedConnection", versions::of("redis"));
    Ok(Side::in_process(name, move |random| {
        let mut connection = connection.clone();
        async move {
            let value: Option<Bytes> = connection.get(key(random)).await?;
            right(value.as_deref())
        }
    }))
}

async fn fred(url: &str) -> anyhow::Result<Side> {
    let config = fred::types::config::Config::from_url(url)?;
    let client = fred::types::Builder::from_config(config).build()?;
    // The task that drives the connection ends with the client.
    let _driver = client.init().await?;
    Ok(Side::in_process(versions::of("fred"), move |random| {
        let client = client.clone();
        async move {
            let value: Option<Bytes> = client.get(key(random)).await?;
            right(value.as_deref())
        }
    }))
}
