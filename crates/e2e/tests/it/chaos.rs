//! Faults under load, through the running services: what callers see, and what is left afterwards.
//!
//! Each test has servers of its own and breaks them in one way. They run one at a time, because
//! each wants the machine.

use std::time::Duration;

use forebay_e2e::{Backends, System, TokenClient};
use forebay_proto::ops::v1::GetConnectionPoolsRequest;
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::token::v1::{ListTokensRequest, Token};
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use self::traffic::{Tally, Traffic};

mod cancels;
mod kills;
mod outages;
mod traffic;

/// The goal is a second; a busy machine gets more before a test fails.
const FULL_AGAIN_MAX: Duration = Duration::from_secs(10);

/// What the services say when a test fails: what went wrong, and why it was not tried again.
const LOG: &str = "warn,forebay_postgres::retry=debug";

static ALONE: Mutex<()> = Mutex::const_new(());

/// The running services, on servers to be broken.
struct Chaos {
    // First, so that the services go before their stores do.
    system: System,
    postgres: PrivatePostgres,
    redis: PrivateRedis,
    sample: Vec<Token>,
    _alone: MutexGuard<'static, ()>,
}

impl Chaos {
    /// Starts everything; `env` are settings of the services.
    async fn start(env: &[(&'static str, &str)]) -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        let postgres = PrivatePostgres::start_seeded().await;
        let redis = PrivateRedis::start();
        let env = env.iter().map(|&(key, value)| (key, value.to_owned()));
        // A cache that holds next to nothing, so that the load reaches the stores.
        let small_cache = ("FOREBAY__CACHE__L1_BYTES_MAX", "65536".to_owned());
        let log = ("FOREBAY__TELEMETRY__LOG_FILTER", LOG.to_owned());
        let backends = Backends {
            postgres_url: postgres.url(),
            redis_url: redis.url(),
            redis_prefix: forebay_testkit::redis_prefix(),
            env: env.chain([small_cache, log]).collect(),
        };
        let system = System::start_on(&backends).await?;
        let sample = sample(&mut system.token_client().await?).await?;
        Ok(Self { system, postgres, redis, sample, _alone: alone })
    }

    /// Sends callers off, and waits until they are at work.
    async fn traffic(&self) -> anyhow::Result<Traffic> {
        let traffic = Traffic::start(&self.system, &self.sample).await?;
        traffic.answer(500).await;
        Ok(traffic)
    }

    /// Stops the callers and prints what they saw. Fails when one was given a wrong row, or when
    /// a permit is still taken afterwards.
    async fn settle(&self, fault: &str, traffic: Traffic) -> anyhow::Result<Tally> {
        let tally = traffic.finish().await?;
        let full_again = self.full_again().await?;
        tell(&format!("{fault}: {tally}; all permits back after {} ms", full_again.as_millis()));
        Ok(tally)
    }

    /// Waits until every permit is back and nobody waits, in every service; how long that took.
    async fn full_again(&self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        for port in [self.system.token.grpc_port, self.system.pool.grpc_port] {
            let mut ops = OpsServiceClient::connect(format!("http://127.0.0.1:{port}")).await?;
            loop {
                let pools = ops.get_connection_pools(GetConnectionPoolsRequest {}).await?;
                let pools = pools.into_inner();
                let is_full = pools.postgres.iter().all(|pool| {
                    let taken = pool.in_use_connections + pool.limbo_connections + pool.waiting;
                    taken == 0 && pool.live_max_connections == pool.max_connections
                });
                if is_full && pools.redis.iter().all(|pool| pool.command_queue_length == 0) {
                    break;
                }
                anyhow::ensure!(
                    started.elapsed() < FULL_AGAIN_MAX,
                    "permits are missing: {pools:#?}"
                );
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Ok(started.elapsed())
    }
}

/// Tokens to work with.
async fn sample(tokens: &mut TokenClient) -> anyhow::Result<Vec<Token>> {
    let request = ListTokensRequest { page_size: 1000, ..Default::default() };
    Ok(tokens.list_tokens(request).await?.into_inner().tokens)
}

#[expect(clippy::print_stdout, reason = "the figures are what a person reads the test for")]
fn tell(figures: &str) {
    println!("chaos: {figures}");
}
