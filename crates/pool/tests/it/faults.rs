//! What is left when a store or the token service is away.

use std::time::Duration;

use forebay_proto::pool::v1::{GetPoolRequest, ListPoolsRequest, LookupPoolRequest, PoolFilter};
use forebay_testkit as testkit;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::fixture::{
    SOL, SOL_USDC, System, UNUSED, assert_refused, create, create_request, get, lookup, pool,
};

/// How long a store that came back may take to be used again.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// How long an answer may take while a store is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_unavailable(status: &Status, reason: &str, began: Instant) {
    assert_refused(status, Code::Unavailable, reason);
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert!(began.elapsed() < ANSWER_MAX, "refused after {:?}", began.elapsed());
}

#[tokio::test]
async fn without_postgres_cached_pools_are_served_and_the_rest_is_unavailable() {
    let mut postgres = testkit::PrivatePostgres::start_seeded().await;
    let system = System::start(
        &testkit::postgres_config(&postgres.url()),
        &testkit::redis_config(&testkit::redis_url(), &testkit::redis_prefix()),
    )
    .await;
    let mut client = system.client();
    let cached = lookup(&mut client, SOL_USDC).await;
    postgres.kill();

    assert_eq!(lookup(&mut client, SOL_USDC).await, cached);
    let began = Instant::now();
    let request = GetPoolRequest { id: cached.id.clone() };
    let status = client.get_pool(request).await.expect_err("it is cached by address only");
    assert_unavailable(&status, "STORE_UNAVAILABLE", began);
    let began = Instant::now();
    let status = client.list_pools(ListPoolsRequest::default()).await.expect_err("a list");
    assert_unavailable(&status, "STORE_UNAVAILABLE", began);
    let began = Instant::now();
    let status = client.create_pool(create_request(pool(UNUSED), "")).await.expect_err("a write");
    assert_unavailable(&status, "TOKEN_SERVICE_UNAVAILABLE", began);

    postgres.restart();
    let began = Instant::now();
    while let Err(status) = client.get_pool(GetPoolRequest { id: cached.id.clone() }).await {
        assert!(began.elapsed() < RECOVERY_MAX, "still {status:?}");
    }
}

#[tokio::test]
async fn without_the_token_service_only_what_needs_it_is_unavailable() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    system.kill_tokens();

    let known = lookup(&mut client, SOL_USDC).await;
    assert_eq!(get(&mut client, &known.id).await, known);
    let all = client.list_pools(ListPoolsRequest::default()).await.expect("no mint to resolve");
    assert_eq!(all.into_inner().pools.len(), 50);

    let began = Instant::now();
    let filter = Some(PoolFilter { token_mint: SOL.to_owned(), ..Default::default() });
    let by_token = ListPoolsRequest { filter, ..Default::default() };
    let status = client.list_pools(by_token).await.expect_err("a mint to resolve");
    assert_unavailable(&status, "TOKEN_SERVICE_UNAVAILABLE", began);
    let began = Instant::now();
    let status = client.create_pool(create_request(pool(UNUSED), "")).await.expect_err("two mints");
    assert_unavailable(&status, "TOKEN_SERVICE_UNAVAILABLE", began);
}

#[tokio::test]
async fn without_redis_reads_and_writes_go_on_and_are_right() {
    let database = testkit::seeded_database().await;
    let redis = testkit::PrivateRedis::start();
    let system = System::start(
        &testkit::postgres_config(database.url()),
        &testkit::redis_config(&redis.url(), "pool-test:"),
    )
    .await;
    let mut client = system.client();
    lookup(&mut client, SOL_USDC).await;
    redis.kill();
    let began = Instant::now();
    lookup(&mut client, SOL_USDC).await;
    let request = LookupPoolRequest { pool_address: UNUSED.to_owned() };
    let status = client.lookup_pool(request).await.expect_err("there is none");
    assert_refused(&status, Code::NotFound, "POOL_NOT_FOUND");
    let created = create(&mut client, pool(UNUSED)).await;
    assert_eq!(lookup(&mut client, UNUSED).await, created);
    assert!(began.elapsed() < ANSWER_MAX, "took {:?}", began.elapsed());
}
