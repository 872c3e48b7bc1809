//! Hits are answered with the bytes that the cache holds.

use forebay_proto::token::v1 as pb;
use forebay_proto::token::v1_stored::token_service_server::TokenService as _;
use forebay_testkit as testkit;
use prost::Message as _;
use tonic::Request;

use crate::fixture::Service;
use crate::raw;

/// Every token of the seed data, read by id and by mint from Postgres and from L1, and in batches:
/// each reply is exactly what prost makes of the real message. Fails when the number, the type or
/// the order of a field of a reply differs from the contract.
#[tokio::test]
async fn replies_are_what_prost_would_encode() {
    let database = testkit::seeded_database().await;
    let system = Service::on(&database).await;
    let (service, mut client) = (system.service(), system.client());
    let mut page_token = String::new();
    let (mut replies, mut bytes) = (0, 0);
    loop {
        let request = pb::ListTokensRequest { page_size: 1000, page_token, ..Default::default() };
        let page = client.list_tokens(request.clone()).await.expect("a page").into_inner();
        let path = "/forebay.token.v1.TokenService/ListTokens";
        let reply = raw::call(system.channel(), path, request.encode_to_vec()).await;
        assert!(reply == page.encode_to_vec(), "a page differs");
        let batch = pb::BatchGetTokensRequest {
            ids: page.tokens.iter().map(|token| token.id.clone()).collect(),
            mints: Vec::new(),
        };
        let path = "/forebay.token.v1.TokenService/BatchGetTokens";
        let reply = raw::call(system.channel(), path, batch.encode_to_vec()).await;
        let expected = pb::BatchGetTokensResponse { tokens: page.tokens, missing: Vec::new() };
        assert!(reply == expected.encode_to_vec(), "a batch differs");
        for token in &expected.tokens {
            let expected = pb::GetTokenResponse { token: Some(token.clone()) }.encode_to_vec();
            let request = pb::GetTokenRequest { id: token.id.clone() };
            let by_id = service.get_token(Request::new(request)).await.expect("seeded");
            assert_eq!(by_id.get_ref().encode_to_vec(), expected, "{}", token.id);
            let request = pb::LookupTokenRequest { mint: token.mint.clone() };
            let by_mint = service.lookup_token(Request::new(request)).await.expect("seeded");
            assert_eq!(by_mint.get_ref().encode_to_vec(), expected, "{}", token.mint);
            replies += 2;
            bytes += 2 * expected.len();
        }
        // What the server adds is the same for all of them, so one of a page is read off the wire.
        let token = expected.tokens.first().expect("no page is empty");
        let expected = pb::GetTokenResponse { token: Some(token.clone()) }.encode_to_vec();
        let by_id = pb::GetTokenRequest { id: token.id.clone() }.encode_to_vec();
        let by_mint = pb::LookupTokenRequest { mint: token.mint.clone() }.encode_to_vec();
        let path = "/forebay.token.v1.TokenService/GetToken";
        assert_eq!(raw::call(system.channel(), path, by_id).await, expected);
        let path = "/forebay.token.v1.TokenService/LookupToken";
        assert_eq!(raw::call(system.channel(), path, by_mint).await, expected);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    report(&format!("{replies} replies of {bytes} bytes are what prost encodes"));
    assert!(replies > 100, "{replies}");
}

/// Fails when a hit is encoded again or copied before it is written: its bytes would be elsewhere.
#[tokio::test]
async fn hits_hand_out_the_memory_of_the_cache() {
    let database = testkit::seeded_database().await;
    let system = Service::on(&database).await;
    let service = system.service();
    let request = || Request::new(pb::LookupTokenRequest { mint: crate::fixture::USDC.to_owned() });
    let first = service.lookup_token(request()).await.expect("seeded").into_inner().token;
    let second = service.lookup_token(request()).await.expect("seeded").into_inner().token;
    assert_eq!((first.as_ptr(), first.len()), (second.as_ptr(), second.len()));
    let id = pb::Token::decode(first).expect("a token").id;
    let request = || Request::new(pb::GetTokenRequest { id: id.clone() });
    let first = service.get_token(request()).await.expect("seeded").into_inner().token;
    let batch = pb::BatchGetTokensRequest { ids: vec![id.clone()], mints: Vec::new() };
    let batch = service.batch_get_tokens(Request::new(batch)).await.expect("seeded").into_inner();
    assert_eq!(first.as_ptr(), batch.tokens[0].as_ptr());
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the log of the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
