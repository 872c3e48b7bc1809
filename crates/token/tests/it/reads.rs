//! Single tokens and batches.

use forebay_proto::token::v1::{BatchGetTokensRequest, GetTokenRequest, LookupTokenRequest};
use forebay_testkit as testkit;
use tonic::Code;

use crate::fixture::{
    Service, UNUSED_ID, UNUSED_MINT, USDC, assert_bad_fields, assert_refused, get, lookup,
};

#[tokio::test]
async fn a_token_is_the_same_by_id_by_mint_and_in_a_batch() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let usdc = lookup(&mut client, USDC).await;
    assert_eq!((usdc.symbol.as_str(), usdc.name.as_str(), usdc.decimals), ("USDC", "USD Coin", 6));
    assert!(usdc.version > 0 && !usdc.etag.is_empty() && usdc.create_time.is_some());
    // Each of these is answered twice: by Postgres and by the cache.
    for _ in 0..2 {
        assert_eq!(get(&mut client, &usdc.id).await, usdc);
        assert_eq!(lookup(&mut client, USDC).await, usdc);
        let request = BatchGetTokensRequest {
            ids: vec![UNUSED_ID.to_owned(), usdc.id.clone()],
            mints: vec![USDC.to_owned(), UNUSED_MINT.to_owned(), USDC.to_owned()],
        };
        let reply = client.batch_get_tokens(request).await.expect("a valid batch").into_inner();
        assert_eq!(reply.tokens, [usdc.clone(), usdc.clone(), usdc.clone()]);
        assert_eq!(reply.missing, [UNUSED_ID, UNUSED_MINT]);
    }
}

#[tokio::test]
async fn unknown_is_not_malformed() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    for _ in 0..2 {
        let request = GetTokenRequest { id: UNUSED_ID.to_owned() };
        let status = client.get_token(request).await.expect_err("there is none");
        assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
        let request = LookupTokenRequest { mint: UNUSED_MINT.to_owned() };
        let status = client.lookup_token(request).await.expect_err("there is none");
        assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
    }
    for id in ["", "42", "0198c0de000070008000000000000001"] {
        let request = GetTokenRequest { id: id.to_owned() };
        let status = client.get_token(request).await.expect_err("malformed");
        assert_bad_fields(&status, &["id"]);
    }
    for mint in ["", "0", "1111111111111111111111111111111"] {
        let request = LookupTokenRequest { mint: mint.to_owned() };
        let status = client.lookup_token(request).await.expect_err("malformed");
        assert_bad_fields(&status, &["mint"]);
    }
}

#[tokio::test]
async fn a_batch_of_a_thousand_keeps_its_order() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let rows = database.connect().await;
    let rows = rows
        .client()
        .query("SELECT mint FROM tokens ORDER BY md5(mint) LIMIT 1000", &[])
        .await
        .expect("the tokens are there");
    let mints: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    for _ in 0..2 {
        let request = BatchGetTokensRequest { ids: Vec::new(), mints: mints.clone() };
        let reply = client.batch_get_tokens(request).await.expect("a valid batch").into_inner();
        let found: Vec<String> = reply.tokens.into_iter().map(|token| token.mint).collect();
        assert_eq!(found, mints);
        assert!(reply.missing.is_empty());
    }
    let request = BatchGetTokensRequest { ids: vec![UNUSED_ID.to_owned()], mints };
    let status = client.batch_get_tokens(request).await.expect_err("one too many");
    assert_bad_fields(&status, &["mints"]);
}
