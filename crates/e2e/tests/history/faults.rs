//! What happens to the stores and the ways to them.

use std::time::Duration;

use tokio::time::Instant;

use crate::fleet::{Fleet, REPLICAS};

/// How long a fault lasts: more than the bound.
pub(crate) const FAULT: Duration = Duration::from_millis(1_500);
/// The time between two faults.
pub(crate) const CALM: Duration = Duration::from_millis(500);
/// How late one answer of Postgres in four is when they are uneven: more than it takes to hear of a
/// change, and less than a question of the tail may take.
const UNEVENNESS: Duration = Duration::from_millis(600);

/// The faults, in their order.
pub(crate) const FAULTS: [Fault; 14] = [
    Fault::Redis(Redis::Slow),
    Fault::Redis(Redis::Cut),
    Fault::Redis(Redis::HalfOpen),
    Fault::Redis(Redis::Suspended),
    Fault::Redis(Redis::Emptied),
    Fault::Redis(Redis::Killed),
    Fault::Redis(Redis::OldDump),
    Fault::Redis(Redis::Full),
    Fault::Redis(Redis::Evicting),
    Fault::Postgres(Postgres::Slow),
    Fault::Postgres(Postgres::Uneven),
    Fault::Postgres(Postgres::Cut),
    Fault::Postgres(Postgres::HalfOpen),
    Fault::Everything,
];

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Redis(Redis),
    Postgres(Postgres),
    /// Both stores of one replica, and a Redis that was emptied.
    Everything,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Redis {
    /// Longer than the cache waits for it, for all replicas.
    Slow,
    Cut,
    /// One replica: connections are open and carry nothing.
    HalfOpen,
    Suspended,
    Emptied,
    /// Away for the time of the fault; back without its keys.
    Killed,
    /// Back with the keys it had before the fault began.
    OldDump,
    /// There is no room for anything new.
    Full,
    /// Entries and tombstones are lost again and again, and answers of Postgres overtake each other.
    Evicting,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Postgres {
    /// One replica.
    Slow,
    /// Answers overtake each other: a load is late when what changed since is known already.
    Uneven,
    Cut,
    /// One replica: it hears of no change.
    HalfOpen,
}

/// One fault from its beginning to its end.
pub(crate) async fn inflict(fleet: &mut Fleet, fault: Fault, round: usize) -> anyhow::Result<()> {
    let one = round % REPLICAS;
    match fault {
        Fault::Redis(fault) => inflict_on_redis(fleet, fault, one).await?,
        Fault::Postgres(fault) => inflict_on_postgres(fleet, fault, one).await,
        Fault::Everything => {
            fleet.replicas[one].to_postgres.black_hole();
            fleet.replicas[one].to_redis.cut();
            fleet.redis_ok("FLUSHALL").await?;
            tokio::time::sleep(FAULT).await;
        }
    }
    Ok(())
}

async fn inflict_on_redis(fleet: &mut Fleet, fault: Redis, one: usize) -> anyhow::Result<()> {
    match fault {
        Redis::Slow => {
            for (replica, delay) in fleet.replicas.iter().zip([20, 80, 150]) {
                replica.to_redis.delay(Duration::from_millis(delay));
            }
            tokio::time::sleep(FAULT).await;
            fleet.replicas.iter().for_each(|replica| replica.to_redis.delay(Duration::ZERO));
        }
        Redis::Cut => {
            for _ in 0..10 {
                fleet.replicas.iter().for_each(|replica| replica.to_redis.cut());
                tokio::time::sleep(FAULT / 10).await;
            }
        }
        Redis::HalfOpen => {
            fleet.replicas[one].to_redis.black_hole();
            tokio::time::sleep(FAULT).await;
        }
        Redis::Suspended => {
            fleet.redis.stop();
            tokio::time::sleep(FAULT).await;
            fleet.redis.cont();
        }
        Redis::Emptied => {
            fleet.redis_ok("FLUSHALL").await?;
            tokio::time::sleep(FAULT).await;
        }
        Redis::Killed => {
            fleet.redis.kill();
            tokio::time::sleep(FAULT).await;
            fleet.restart_redis();
        }
        Redis::OldDump => {
            fleet.redis_ok("SAVE").await?;
            tokio::time::sleep(FAULT).await;
            fleet.restart_redis();
            tokio::time::sleep(FAULT).await;
            // The next restart is to find nothing.
            fleet.redis_ok("FLUSHALL").await?;
            fleet.redis_ok("SAVE").await?;
        }
        Redis::Full => {
            fleet.redis_ok("CONFIG SET maxmemory 1").await?;
            tokio::time::sleep(FAULT).await;
            fleet.redis_ok("CONFIG SET maxmemory 0").await?;
        }
        Redis::Evicting => {
            uneven(fleet, UNEVENNESS);
            let until = Instant::now() + FAULT;
            while Instant::now() < until {
                fleet.evict_entries().await?;
                tokio::time::sleep(FAULT / 50).await;
            }
            uneven(fleet, Duration::ZERO);
        }
    }
    Ok(())
}

async fn inflict_on_postgres(fleet: &Fleet, fault: Postgres, one: usize) {
    match fault {
        Postgres::Uneven => {
            uneven(fleet, UNEVENNESS);
            tokio::time::sleep(FAULT).await;
            uneven(fleet, Duration::ZERO);
        }
        Postgres::Slow => {
            fleet.replicas[one].to_postgres.delay(Duration::from_millis(150));
            tokio::time::sleep(FAULT).await;
            fleet.replicas[one].to_postgres.delay(Duration::ZERO);
        }
        Postgres::Cut => {
            fleet.replicas.iter().for_each(|replica| replica.to_postgres.cut());
            tokio::time::sleep(FAULT).await;
        }
        Postgres::HalfOpen => {
            fleet.replicas[one].to_postgres.black_hole();
            tokio::time::sleep(FAULT).await;
        }
    }
}

fn uneven(fleet: &Fleet, most: Duration) {
    fleet.replicas.iter().for_each(|replica| replica.to_postgres.uneven(most));
}
