//! Faults under load, through the running services: what callers see, and what is left afterwards.
//!
//! Each test has servers of its own and breaks them in one way. They run one at a time, because
//! each wants the machine.

use std::time::Duration;

use forebay_e2e::{Backends, System, TokenClient};
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::ops::v1::{
    CircuitBreakerStats, GetConnectionPoolsRequest, GetConnectionPoolsResponse,
};
use forebay_proto::token::v1::{ListTokensRequest, Token};
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use self::traffic::{Tally, Traffic, list_symbol};

mod cancels;
mod kills;
mod outages;
mod traffic;

/// From the end of a fault until the connection pools are full again.
const FULL_AGAIN_MAX: Duration = Duration::from_secs(1);
/// How long to look before that is called a failure: what is missing then will not come.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// Callers that ask all at once when everything is over.
const BURST: usize = 256;

/// What the services say when a test fails: what went wrong, and why it was not tried again.
const LOG: &str = "warn,forebay_postgres::transactions::retry=debug";

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

    /// To be called the moment a fault is over: waits until the services are themselves again under
    /// the same load, stops the callers, and waits until every permit is back. Prints what the
    /// callers saw.
    ///
    /// Fails when a caller was given a wrong row, when the connection pools are not full again
    /// within [`FULL_AGAIN_MAX`], and when somebody is refused after it.
    async fn settle(&self, fault: &str, traffic: Traffic) -> anyhow::Result<Tally> {
        let over = Instant::now();
        self.look(over, is_healed).await?;
        let healed = over.elapsed();
        traffic.stop();
        self.look(over, is_full).await?;
        let full = over.elapsed();
        let tally = traffic.finish().await?;
        let (healed_ms, full_ms) = (healed.as_millis(), full.as_millis());
        tell(&format!("{fault}: {tally}; healed {healed_ms} ms after it, full after {full_ms} ms"));
        self.burst().await?;
        anyhow::ensure!(full < FULL_AGAIN_MAX, "full again only {full:?} after: {fault}");
        Ok(tally)
    }

    /// Every connection serves: many more callers than connections, all at once.
    async fn burst(&self) -> anyhow::Result<()> {
        let tokens = self.system.token_client().await?;
        let burst = (0..BURST).map(|index| {
            let symbol = &self.sample[index % self.sample.len()].symbol;
            let mut tokens = tokens.clone();
            async move { list_symbol(&mut tokens, symbol).await }
        });
        futures_util::future::try_join_all(burst).await?;
        Ok(())
    }

    /// Waits until the connection pools of every service are as they should be, all at once.
    async fn look(
        &self,
        over: Instant,
        is_well: fn(&GetConnectionPoolsResponse) -> bool,
    ) -> anyhow::Result<()> {
        let mut services = Vec::new();
        for port in [self.system.token.grpc_port, self.system.pool.grpc_port] {
            services.push(OpsServiceClient::connect(format!("http://127.0.0.1:{port}")).await?);
        }
        loop {
            let mut seen = Vec::new();
            for ops in &mut services {
                let pools = ops.get_connection_pools(GetConnectionPoolsRequest {}).await?;
                seen.push(pools.into_inner());
            }
            if seen.iter().all(is_well) {
                return Ok(());
            }
            anyhow::ensure!(over.elapsed() < LOOK_MAX, "not full again: {seen:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Nothing of a fault is left: every connection may be used, nobody waits for one, and the stores
/// are asked.
fn is_healed(pools: &GetConnectionPoolsResponse) -> bool {
    let is_closed = |breaker: &CircuitBreakerStats| breaker.state == "closed";
    let postgres = pools.postgres.iter().all(|pool| {
        pool.limbo_connections + pool.waiting == 0
            && pool.live_max_connections == pool.max_connections
            && pool.breaker.as_ref().is_some_and(is_closed)
    });
    let redis = pools.redis.iter().all(|pool| {
        pool.connected
            && pool.offline_queue_length == 0
            && pool.breaker.as_ref().is_some_and(is_closed)
    });
    postgres && redis
}

/// And nobody uses any: whatever was lent is back.
fn is_full(pools: &GetConnectionPoolsResponse) -> bool {
    is_healed(pools)
        && pools.postgres.iter().all(|pool| pool.in_use_connections == 0)
        && pools.redis.iter().all(|pool| pool.command_queue_length == 0)
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
