//! Serves `forebay.pool.v1` over gRPC.
//!
//! Postgres must have answered once before the process is ready; Redis and the token service
//! may come and go. While one is away the process stays up: it heals when the other comes back.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use forebay_boot::Process;
use forebay_cache::Cache;
use forebay_config::Config;
use forebay_grpc::{Server, client};
use forebay_ops::{OpsService, Stores, follow_readiness, warm_up};
use forebay_pool::{MintResolver, PoolService};
use forebay_pooling::Deadline;
use forebay_postgres::{PgPool, Sweeper};
use forebay_redis::RedisPool;

/// How long the last commits may take, and their invalidations to reach Redis. Postgres gets two
/// seconds more to cut off what is left.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    forebay_boot::run("pool-server", serve)
}

async fn serve(config: Config, process: Process) -> anyhow::Result<()> {
    let postgres = PgPool::new(&config.postgres, process.service).context("set up postgres")?;
    let redis = RedisPool::new(&config.redis).context("set up redis")?;
    let tokens = client::connect(&config.token_client).context("set up the token client")?;
    let cache = Cache::new(&config.cache, postgres.clone(), redis.clone());
    let (mints, key) = (MintResolver::new(tokens), &config.grpc.page_token_key);
    let pools = PoolService::new(postgres.clone(), &cache, &config.cache.pool, mints, key);
    let ops = OpsService::new(&process).postgres(&postgres).redis(&redis);
    let ops = ops.cache(&cache).server();

    let expiring = [forebay_idempotency::EXPIRED, forebay_cache::REPLAYED];
    let _sweeper = Sweeper::start(postgres.clone(), expiring);
    let grpc = process.readiness.component("grpc");
    let stores = Stores::new(&postgres, &redis);
    stores.watch(&process);
    warm_up(&process, &cache);
    let server = Server::new(&config.grpc, process.service).add(ops);
    let server = server.add(forebay_pool::server(pools.clone()));
    follow_readiness(&process.readiness, server.health()).await;
    let server = server.bind().await.context("serve gRPC")?;
    grpc.set_ready();
    let serving = server.serve(process.shutdown.fired());
    stores.within_budget(serving).await.context("refuse to run")?;
    let deadline = Deadline::after(DRAIN_TIMEOUT);
    pools.drain(deadline).await;
    cache.drain(deadline).await;
    stores.drain(deadline).await;
    Ok(())
}
