//! The history of three replicas under faults: every read is judged by what had been written.
//!
//! `cargo xtask chaos cache --minutes N` runs it for longer.

mod fleet;
mod ledger;
mod load;
mod proxy;

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::Instant;

use self::fleet::Fleet;
use self::load::Load;

/// How long a fault lasts, and the calm after it. More than the bound.
const FAULT: Duration = Duration::from_millis(1_500);
const CALM: Duration = Duration::from_millis(500);
/// Seconds that the faults are gone through for, again and again; once at least.
const SECONDS: &str = "FOREBAY_CHAOS_SECONDS";
/// Operations without which a run says nothing, also on a busy machine.
const OPERATIONS_MIN: u64 = 10_000;

/// The faults, in their order.
const FAULTS: [Fault; 11] = [
    Fault::RedisSlow,
    Fault::RedisCut,
    Fault::RedisHalfOpen,
    Fault::RedisSuspended,
    Fault::RedisEmptied,
    Fault::RedisKilled,
    Fault::RedisOldDump,
    Fault::PostgresSlow,
    Fault::PostgresCut,
    Fault::PostgresHalfOpen,
    Fault::Everything,
];

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Longer than the cache waits for Redis, for all replicas.
    RedisSlow,
    RedisCut,
    /// One replica: connections are open and carry nothing.
    RedisHalfOpen,
    RedisSuspended,
    RedisEmptied,
    /// Away for the time of the fault; back without its keys.
    RedisKilled,
    /// Back with the keys it had before the fault began.
    RedisOldDump,
    /// One replica.
    PostgresSlow,
    PostgresCut,
    /// One replica: it hears of no change.
    PostgresHalfOpen,
    /// Both stores of one replica, and a Redis that was emptied.
    Everything,
}

/// Fails when a read misses what was committed longer ago than the bound, when a deleted row comes
/// back, or when a replica does not see its own write, whatever becomes of the stores meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_read_is_within_its_bound() -> anyhow::Result<()> {
    let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(0));
    let mut fleet = Fleet::start().await?;
    let clients = fleet.clients().await?;
    let load = Load::start(&clients, fleet.postgres()?).await?;
    tokio::time::sleep(FAULT).await;
    let mut rounds = 0_usize;
    loop {
        for fault in FAULTS {
            let (operations, violations) =
                (load.ledger.operations(), load.ledger.violations.load(Relaxed));
            inflict(&mut fleet, fault, rounds).await?;
            tokio::time::sleep(CALM).await;
            tell(&format!(
                "{fault:?}: {} operations, {} violations",
                load.ledger.operations() - operations,
                load.ledger.violations.load(Relaxed) - violations
            ));
        }
        rounds += 1;
        if Instant::now() >= until {
            break;
        }
    }
    let (ledger, refused) =
        (std::sync::Arc::clone(&load.ledger), std::sync::Arc::clone(&load.refused));
    load.finish().await?;
    let (reads, writes) = (ledger.reads.load(Relaxed), ledger.writes.load(Relaxed));
    let violations = ledger.violations.load(Relaxed);
    tell(&format!(
        "{reads} reads and {writes} writes over {} replicas under {} faults: {violations} violations, \
         {} reads older than an earlier one within the bound, {} calls refused",
        fleet::REPLICAS,
        rounds * FAULTS.len(),
        ledger.regressions.load(Relaxed),
        refused.load(Relaxed),
    ));
    assert_eq!(violations, 0, "{}", ledger.told());
    assert!(reads + writes >= OPERATIONS_MIN, "too few to tell");
    Ok(())
}

/// One fault from its beginning to its end.
async fn inflict(fleet: &mut Fleet, fault: Fault, round: usize) -> anyhow::Result<()> {
    let one = round % fleet::REPLICAS;
    match fault {
        Fault::RedisSlow => {
            for (replica, delay) in fleet.replicas.iter().zip([20, 80, 150]) {
                replica.to_redis.delay(Duration::from_millis(delay));
            }
            tokio::time::sleep(FAULT).await;
            fleet.replicas.iter().for_each(|replica| replica.to_redis.delay(Duration::ZERO));
        }
        Fault::RedisCut => {
            for _ in 0..10 {
                fleet.replicas.iter().for_each(|replica| replica.to_redis.cut());
                tokio::time::sleep(FAULT / 10).await;
            }
        }
        Fault::RedisHalfOpen => {
            fleet.replicas[one].to_redis.black_hole();
            tokio::time::sleep(FAULT).await;
        }
        Fault::RedisSuspended => {
            fleet.redis.stop();
            tokio::time::sleep(FAULT).await;
            fleet.redis.cont();
        }
        Fault::RedisEmptied => {
            fleet.redis_ok("FLUSHALL").await?;
            tokio::time::sleep(FAULT).await;
        }
        Fault::RedisKilled => {
            fleet.redis.kill();
            tokio::time::sleep(FAULT).await;
            fleet.restart_redis();
        }
        Fault::RedisOldDump => {
            fleet.redis_ok("SAVE").await?;
            tokio::time::sleep(FAULT).await;
            fleet.restart_redis();
            tokio::time::sleep(FAULT).await;
            // The next restart is to find nothing.
            fleet.redis_ok("FLUSHALL").await?;
            fleet.redis_ok("SAVE").await?;
        }
        Fault::PostgresSlow => {
            fleet.replicas[one].to_postgres.delay(Duration::from_millis(150));
            tokio::time::sleep(FAULT).await;
            fleet.replicas[one].to_postgres.delay(Duration::ZERO);
        }
        Fault::PostgresCut => {
            fleet.replicas.iter().for_each(|replica| replica.to_postgres.cut());
            tokio::time::sleep(FAULT).await;
        }
        Fault::PostgresHalfOpen => {
            fleet.replicas[one].to_postgres.black_hole();
            tokio::time::sleep(FAULT).await;
        }
        Fault::Everything => {
            fleet.replicas[one].to_postgres.black_hole();
            fleet.replicas[one].to_redis.cut();
            fleet.redis_ok("FLUSHALL").await?;
            tokio::time::sleep(FAULT).await;
        }
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are what a person runs it for")]
fn tell(figures: &str) {
    println!("chaos: {figures}");
}
