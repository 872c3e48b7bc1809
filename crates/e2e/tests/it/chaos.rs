//! One fault after another under load, through the running services: what is left afterwards.

use std::time::Duration;

use anyhow::Context as _;
use forebay_e2e::{Backends, System, TokenClient};
use forebay_postgres::maintenance::Maintenance;
use forebay_proto::ops::v1::GetConnectionPoolsRequest;
use forebay_proto::ops::v1::ops_service_client::OpsServiceClient;
use forebay_proto::token::v1::{ListTokensRequest, Token};
use forebay_testkit::{PrivatePostgres, PrivateRedis};
use tokio::time::Instant;
use tonic::{Code, Status};

use self::traffic::{Tally, Traffic, find, list_symbol};

mod traffic;

/// Calls that are dropped by their caller.
const CANCELLED_CALLS: u32 = 10_000;
/// Calls under way at once while calls are cancelled.
const CANCELLED_AT_ONCE: u32 = 16;
/// Backends that are killed, one after another.
const KILLS: u32 = 50;
/// The goal is a second; a busy machine gets more before the test fails.
const FULL_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Fails when a write whose backend was killed before its commit is not done again, and when a
/// read whose backend was killed is not repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_under_load_leave_nothing_behind() -> anyhow::Result<()> {
    let mut postgres = PrivatePostgres::start_seeded().await;
    let redis = PrivateRedis::start();
    let backends = Backends {
        postgres_url: postgres.url(),
        redis_url: redis.url(),
        redis_prefix: forebay_testkit::redis_prefix(),
        // A cache that holds next to nothing, so that the load reaches the stores.
        env: vec![("FOREBAY__CACHE__L1_BYTES_MAX", "65536".to_owned())],
    };
    let system = System::start_on(&backends).await?;
    let sample = sample(&mut system.token_client().await?).await?;

    let traffic = Traffic::start(&system, &sample).await?;
    traffic.answer(500).await;
    for _ in 0..KILLS {
        kill_a_backend(&postgres.url()).await?;
        traffic.answer(20).await;
    }
    let tally = traffic.finish().await?;
    report("50 backends killed", &tally, full_again(&system).await?);
    let told = tally.reads_failed + tally.writes_repeated;
    assert_eq!(told, 0, "what is done again hides a killed backend: {tally}");

    let traffic = Traffic::start(&system, &sample).await?;
    traffic.answer(500).await;
    postgres.kill();
    traffic.attempt(100).await;
    postgres.restart();
    traffic.healed().await?;
    let tally = traffic.finish().await?;
    report("postgres restarted", &tally, full_again(&system).await?);
    assert_eq!(tally.other_failures, 0, "only UNAVAILABLE while Postgres is away: {tally}");

    let traffic = Traffic::start(&system, &sample).await?;
    traffic.answer(500).await;
    redis.stop();
    traffic.answer(500).await;
    redis.cont();
    traffic.answer(500).await;
    let tally = traffic.finish().await?;
    report("redis suspended", &tally, full_again(&system).await?);
    assert_eq!(tally.reads_failed + tally.writes_repeated, 0, "Redis fails nothing: {tally}");

    let traffic = Traffic::start(&system, &sample).await?;
    traffic.answer(500).await;
    let answered = cancel_calls(&system, &sample).await?;
    traffic.healed().await?;
    let tally = traffic.finish().await?;
    report("calls cancelled", &tally, full_again(&system).await?);
    tell(&format!("{CANCELLED_CALLS} calls dropped, {answered} of them were answered first"));
    // On a slow machine the storm is an overload, and then some are turned away with a time to come
    // back at; nobody may be told anything else.
    assert_eq!(tally.other_failures, 0, "nobody else fails: {tally}");

    // Every connection serves: more callers than connections, all at once.
    let tokens = system.token_client().await?;
    let burst = (0..64).map(|index: usize| {
        let (mut tokens, symbol) = (tokens.clone(), sample[index % sample.len()].symbol.clone());
        async move { list_symbol(&mut tokens, &symbol).await }
    });
    futures_util::future::try_join_all(burst).await?;
    Ok(())
}

/// Tokens to work with.
async fn sample(tokens: &mut TokenClient) -> anyhow::Result<Vec<Token>> {
    let request = ListTokensRequest { page_size: 1000, ..Default::default() };
    Ok(tokens.list_tokens(request).await?.into_inner().tokens)
}

/// Kills a backend of the services, one in the middle of something if there is one.
async fn kill_a_backend(url: &str) -> anyhow::Result<()> {
    let admin = Maintenance::connect(url).await?;
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid() \
                ORDER BY state <> 'idle' DESC, random() LIMIT 1";
    admin.client().batch_execute(kill).await.context("kill a backend")?;
    admin.close().await;
    Ok(())
}

/// Drops calls after anything from nothing to some milliseconds; how many were answered before.
async fn cancel_calls(system: &System, sample: &[Token]) -> anyhow::Result<u32> {
    let mut clients = Vec::new();
    for _ in 0..CANCELLED_AT_ONCE {
        // Connections of their own: a server ends one on which resets come faster than it reads.
        clients.push(system.token_client().await?);
    }
    let calls = (0..CANCELLED_AT_ONCE).zip(clients).map(|(caller, mut tokens)| async move {
        let stride = usize::try_from(CANCELLED_AT_ONCE)?;
        let mut answered = 0;
        for number in (caller..CANCELLED_CALLS).step_by(stride) {
            let token = &sample[usize::try_from(number)? % sample.len()];
            let patience = Duration::from_micros(u64::from(number * 7919 % 6000));
            let call = async {
                if number % 2 == 0 {
                    list_symbol(&mut tokens, &token.symbol).await
                } else {
                    find(&mut tokens, token).await
                }
            };
            match tokio::time::timeout(patience, call).await {
                Ok(Ok(())) => answered += 1,
                // Anything but a status is a wrong answer.
                Ok(Err(error)) => check_overload(&error.downcast::<Status>()?),
                Err(_dropped) => {}
            }
        }
        anyhow::Ok(answered)
    });
    let answered = futures_util::future::try_join_all(calls).await?;
    Ok(answered.into_iter().sum())
}

#[track_caller]
fn check_overload(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// Waits until every permit is back and nobody waits, in every service; how long that took.
async fn full_again(system: &System) -> anyhow::Result<Duration> {
    let started = Instant::now();
    for port in [system.token.grpc_port, system.pool.grpc_port] {
        let mut ops = OpsServiceClient::connect(format!("http://127.0.0.1:{port}")).await?;
        loop {
            let pools = ops.get_connection_pools(GetConnectionPoolsRequest {}).await?.into_inner();
            let is_full = pools.postgres.iter().all(|pool| {
                let at_rest = pool.in_use_connections + pool.limbo_connections + pool.waiting == 0;
                at_rest && pool.live_max_connections == pool.max_connections
            });
            if is_full && pools.redis.iter().all(|pool| pool.command_queue_length == 0) {
                break;
            }
            anyhow::ensure!(started.elapsed() < FULL_AGAIN_MAX, "permits are missing: {pools:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(started.elapsed())
}

fn report(fault: &str, tally: &Tally, full_again: Duration) {
    tell(&format!("{fault}: {tally}; all permits back after {} ms", full_again.as_millis()));
}

#[expect(clippy::print_stdout, reason = "the figures are what a person reads the test for")]
fn tell(figures: &str) {
    println!("chaos: {figures}");
}
