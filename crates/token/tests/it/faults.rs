//! What is left when a store is away.

use std::time::Duration;

use forebay_proto::token::v1::{GetTokenRequest, ListTokensRequest, LookupTokenRequest};
use forebay_testkit as testkit;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::fixture::{
    Client, Service, UNUSED_MINT, USDC, assert_refused, create, create_request, lookup, token,
};

/// How long a store that came back may take to be used again.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// How long an answer may take while a store is away.
const ANSWER_MAX: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_store_unavailable(status: &Status, began: Instant) {
    assert_refused(status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert!(began.elapsed() < ANSWER_MAX, "refused after {:?}", began.elapsed());
    let text = format!("{} {:?}", status.message(), status.get_error_details());
    for internal in ["postgres", "SELECT", "127.0.0.1", "connection"] {
        assert!(!text.contains(internal), "{internal} leaks in {text}");
    }
}

async fn recovered(client: &mut Client, mint: &str) {
    let began = Instant::now();
    loop {
        let request = LookupTokenRequest { mint: mint.to_owned() };
        match client.lookup_token(request).await {
            Ok(_) => return,
            Err(status) => assert!(began.elapsed() < RECOVERY_MAX, "still {status:?}"),
        }
    }
}

#[tokio::test]
async fn without_postgres_cached_tokens_are_served_and_the_rest_is_unavailable() {
    let mut postgres = testkit::PrivatePostgres::start_seeded().await;
    let service = Service::start(
        &testkit::postgres_config(&postgres.url()),
        &testkit::redis_config(&testkit::redis_url(), &testkit::redis_prefix()),
    )
    .await;
    let mut client = service.client();
    let usdc = lookup(&mut client, USDC).await;
    postgres.kill();

    assert_eq!(lookup(&mut client, USDC).await, usdc);
    let began = Instant::now();
    let request = GetTokenRequest { id: usdc.id.clone() };
    let status = client.get_token(request).await.expect_err("it is cached by mint only");
    assert_store_unavailable(&status, began);
    let began = Instant::now();
    let status = client.list_tokens(ListTokensRequest::default()).await.expect_err("a list");
    assert_store_unavailable(&status, began);
    let began = Instant::now();
    let request = create_request(token(UNUSED_MINT));
    let status = client.create_token(request).await.expect_err("a write");
    assert_store_unavailable(&status, began);

    postgres.restart();
    recovered(&mut client, "So11111111111111111111111111111111111111112").await;
    create(&mut client, token(UNUSED_MINT)).await;
}

#[tokio::test]
async fn a_service_starts_before_its_stores_do() {
    let mut postgres = testkit::PrivatePostgres::start_seeded().await;
    let mut redis = testkit::PrivateRedis::start();
    postgres.kill();
    redis.kill();
    let service = Service::start(
        &testkit::postgres_config(&postgres.url()),
        &testkit::redis_config(&redis.url(), "token-test:"),
    )
    .await;
    let mut client = service.client();
    let began = Instant::now();
    let request = LookupTokenRequest { mint: USDC.to_owned() };
    let status = client.lookup_token(request).await.expect_err("nothing is there");
    assert_store_unavailable(&status, began);
    postgres.restart();
    recovered(&mut client, USDC).await;
    redis.restart();
    lookup(&mut client, USDC).await;
}

#[tokio::test]
async fn without_redis_reads_and_writes_go_on_and_are_right() {
    let database = testkit::seeded_database().await;
    let mut redis = testkit::PrivateRedis::start();
    let service = Service::start(
        &testkit::postgres_config(database.url()),
        &testkit::redis_config(&redis.url(), "token-test:"),
    )
    .await;
    let mut client = service.client();
    lookup(&mut client, USDC).await;
    redis.kill();
    let began = Instant::now();
    lookup(&mut client, USDC).await;
    let request = LookupTokenRequest { mint: UNUSED_MINT.to_owned() };
    let status = client.lookup_token(request).await.expect_err("there is none");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
    let created = create(&mut client, token(UNUSED_MINT)).await;
    assert_eq!(lookup(&mut client, UNUSED_MINT).await, created);
    assert!(began.elapsed() < ANSWER_MAX, "took {:?}", began.elapsed());
    redis.restart();
    assert_eq!(lookup(&mut client, UNUSED_MINT).await, created);
}
