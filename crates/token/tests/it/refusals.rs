//! Writes that are refused change nothing.

use forebay_grpc::etag;
use forebay_proto::token::v1::Token;
use forebay_testkit as testkit;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{
    Service, UNUSED_ID, UNUSED_MINT, USDC, assert_bad_fields, assert_refused, create_request,
    delete_request, lookup, token, update_request,
};

#[tokio::test]
async fn a_taken_mint_cannot_be_created_and_a_mint_cannot_change() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let usdc = lookup(&mut client, USDC).await;

    let status = client.create_token(create_request(token(USDC))).await.expect_err("taken");
    assert_refused(&status, Code::AlreadyExists, "MINT_TAKEN");

    let other_mint = Token { mint: UNUSED_MINT.to_owned(), ..usdc.clone() };
    let status = client.update_token(update_request(other_mint)).await.expect_err("immutable");
    assert_bad_fields(&status, &["token.mint"]);

    assert_eq!(lookup(&mut client, USDC).await, usdc);
}

#[tokio::test]
async fn a_stale_etag_and_an_unknown_id_stop_a_write() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let usdc = lookup(&mut client, USDC).await;
    let stale = etag::encode(usdc.version - 1);

    let update = Token { etag: stale.clone(), name: "x".to_owned(), ..usdc.clone() };
    let status = client.update_token(update_request(update)).await.expect_err("stale");
    assert_refused(&status, Code::Aborted, "ETAG_STALE");
    let delete = delete_request(&usdc.id, &stale);
    let status = client.delete_token(delete).await.expect_err("stale");
    assert_refused(&status, Code::Aborted, "ETAG_STALE");

    let unknown = Token { id: UNUSED_ID.to_owned(), name: "x".to_owned(), ..Token::default() };
    let status = client.update_token(update_request(unknown)).await.expect_err("unknown");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
    let status = client.delete_token(delete_request(UNUSED_ID, "")).await.expect_err("unknown");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");

    assert_eq!(lookup(&mut client, USDC).await, usdc);
}

#[tokio::test]
async fn a_token_that_a_pool_uses_stays() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let usdc = lookup(&mut client, USDC).await;
    let status = client.delete_token(delete_request(&usdc.id, &usdc.etag)).await;
    let status = status.expect_err("pools use it");
    assert_refused(&status, Code::FailedPrecondition, "TOKEN_IN_USE");
    let failure = status.get_details_precondition_failure().expect("it says which one");
    assert_eq!(failure.violations[0].subject, format!("tokens/{}", usdc.id));
    assert_eq!(lookup(&mut client, USDC).await, usdc);
}

/// tonic's own limit would refuse this one with another code, although ours allows it.
#[tokio::test]
async fn a_request_within_the_limit_of_the_server_is_read_whole() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let long = Token { name: "x".repeat(5 << 20), ..token(UNUSED_MINT) };
    let status =
        service.client().create_token(create_request(long)).await.expect_err("a long name");
    assert_bad_fields(&status, &["token.name"]);
}
