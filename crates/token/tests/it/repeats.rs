//! Requests that come twice.

use forebay_proto::token::v1::{CreateTokenRequest, DeleteTokenRequest, Token, UpdateTokenRequest};
use forebay_testkit as testkit;
use futures_util::future::join_all;
use tonic::Code;

use crate::fixture::{
    Service, UNUSED_MINT, assert_bad_fields, assert_refused, create, create_request,
    delete_request, token, update_request,
};

/// A request id of a caller.
pub(crate) const REQUEST_ID: &str = "0198c0de-0000-4000-8000-000000000002";

/// Without the record of requests one of these would be created and the others be refused.
#[tokio::test]
async fn ten_creations_with_one_request_id_are_one() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let create =
        |token| CreateTokenRequest { request_id: REQUEST_ID.to_owned(), ..create_request(token) };
    let calls = (0..10).map(|_| {
        let (mut client, request) = (service.client(), create(token(UNUSED_MINT)));
        async move { client.create_token(request).await.expect("the same reply").into_inner() }
    });
    let mut replies = join_all(calls).await;
    replies.dedup();
    assert_eq!(replies.len(), 1, "one creation, one reply");

    let other = Token { decimals: 1, ..token(UNUSED_MINT) };
    let status = service.client().create_token(create(other)).await.expect_err("another request");
    assert_bad_fields(&status, &["request_id"]);
}

#[tokio::test]
async fn a_repeated_update_or_deletion_gets_its_first_reply() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let id = create(&mut client, token(UNUSED_MINT)).await.id;

    let renamed = Token { id: id.clone(), name: "Renamed".to_owned(), ..Token::default() };
    let request =
        UpdateTokenRequest { request_id: REQUEST_ID.to_owned(), ..update_request(renamed) };
    let first = client.update_token(request.clone()).await.expect("an update").into_inner();
    let again = client.update_token(request).await.expect("a repetition").into_inner();
    assert_eq!(first, again);

    let request =
        DeleteTokenRequest { request_id: REQUEST_ID.to_owned(), ..delete_request(&id, "") };
    client.delete_token(request.clone()).await.expect("a deletion");
    client.delete_token(request).await.expect("a repetition");
    let status = client.delete_token(delete_request(&id, "")).await.expect_err("it is gone");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
}
