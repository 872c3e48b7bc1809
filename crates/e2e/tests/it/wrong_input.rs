//! Wrong input gets the right code with decodable details, and the server lives.

use forebay_e2e::{SOL, SOL_USDC_POOL, System, TokenClient, USDC};
use forebay_proto::pool::v1::{CreatePoolRequest, ListPoolsRequest, Pool, PoolFilter};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, CreateTokenRequest, DeleteTokenRequest, GetTokenRequest,
    ListTokensRequest, LookupTokenRequest, Token, TokenFilter, UpdateTokenRequest,
};
use prost_types::FieldMask;
use tonic::Code;
use uuid::Uuid;

use crate::details::{assert_error, assert_invalid};

/// A valid public key that is in no seed data.
const UNUSED_MINT: &str = "11111111111111111111111111111111";
/// 31 bytes in base58.
const SHORT_MINT: &str = "1111111111111111111111111111111";

fn token(mint: &str, decimals: u32) -> Token {
    Token {
        mint: mint.to_owned(),
        symbol: "TEST".to_owned(),
        name: "Test token".to_owned(),
        decimals,
        ..Default::default()
    }
}

async fn usdc(tokens: &mut TokenClient) -> anyhow::Result<Token> {
    let reply = tokens.lookup_token(LookupTokenRequest { mint: USDC.to_owned() }).await?;
    Ok(reply.into_inner().token.expect("USDC is seeded"))
}

#[tokio::test]
async fn mints_that_are_no_public_key_are_named() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    for mint in ["", "0OIl", SHORT_MINT, "not base58 at all", &"1".repeat(5000)] {
        let request = LookupTokenRequest { mint: mint.to_owned() };
        let status = tokens.lookup_token(request).await.expect_err("a bad mint");
        assert_invalid(&status, &["mint"]);
    }
    let unknown = LookupTokenRequest { mint: UNUSED_MINT.to_owned() };
    let status = tokens.lookup_token(unknown).await.expect_err("no such token");
    assert_error(&status, Code::NotFound);
    usdc(&mut tokens).await?;
    Ok(())
}

#[tokio::test]
async fn every_bad_field_of_a_create_is_named_at_once() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let bad = Token { symbol: String::new(), ..token(SHORT_MINT, 256) };
    let request = CreateTokenRequest { token: Some(bad), request_id: "not a uuid".to_owned() };
    let status = tokens.create_token(request).await.expect_err("all of it is wrong");
    assert_invalid(&status, &["request_id", "token.decimals", "token.mint", "token.symbol"]);

    let none = CreateTokenRequest { token: None, request_id: String::new() };
    let status = tokens.create_token(none).await.expect_err("no token");
    assert_invalid(&status, &["token"]);

    let taken = CreateTokenRequest { token: Some(token(USDC, 6)), request_id: String::new() };
    let status = tokens.create_token(taken).await.expect_err("the mint is taken");
    assert_error(&status, Code::AlreadyExists);

    let mut pools = system.pool_client().await?;
    let bad = Pool { base_mint: "x".to_owned(), trade_fee_bps: 10_001, ..Default::default() };
    let request = CreatePoolRequest { pool: Some(bad), request_id: String::new() };
    let status = pools.create_pool(request).await.expect_err("nearly all of it is wrong");
    assert_error(&status, Code::InvalidArgument);
    Ok(())
}

#[tokio::test]
async fn ids_are_malformed_or_unknown() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let malformed = GetTokenRequest { id: "42".to_owned() };
    let status = tokens.get_token(malformed).await.expect_err("no uuid");
    assert_invalid(&status, &["id"]);
    let unknown = GetTokenRequest { id: Uuid::now_v7().to_string() };
    let status = tokens.get_token(unknown).await.expect_err("no such token");
    assert_error(&status, Code::NotFound);

    let batch = BatchGetTokensRequest {
        ids: vec!["42".to_owned()],
        mints: vec![USDC.to_owned(), SHORT_MINT.to_owned()],
    };
    let status = tokens.batch_get_tokens(batch).await.expect_err("two bad keys");
    assert_invalid(&status, &["ids[0]", "mints[1]"]);
    Ok(())
}

#[tokio::test]
async fn pages_are_refused_when_size_or_token_is_wrong() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let negative = ListTokensRequest { page_size: -1, ..Default::default() };
    let status = tokens.list_tokens(negative).await.expect_err("negative size");
    assert_invalid(&status, &["page_size"]);

    let first = ListTokensRequest { page_size: 1, ..Default::default() };
    let page_token = tokens.list_tokens(first).await?.into_inner().next_page_token;
    let filter = Some(TokenFilter { tag: "wrapped".to_owned(), ..Default::default() });
    let mut tampered = page_token.clone();
    tampered.replace_range(0..1, if tampered.starts_with('A') { "B" } else { "A" });
    let cases = [
        ListTokensRequest { page_token: "garbage".to_owned(), ..Default::default() },
        ListTokensRequest { page_token: tampered, ..Default::default() },
        // A token of another filter would silently page through the wrong rows.
        ListTokensRequest { page_token: page_token.clone(), filter, ..Default::default() },
    ];
    for request in cases {
        let status = tokens.list_tokens(request).await.expect_err("a foreign page token");
        assert_invalid(&status, &["page_token"]);
    }
    let mut pools = system.pool_client().await?;
    let foreign = ListPoolsRequest { page_token, ..Default::default() };
    let status = pools.list_pools(foreign).await.expect_err("a token service's page token");
    assert_invalid(&status, &["page_token"]);

    let filter = Some(PoolFilter { token_mint: "x".to_owned(), ..Default::default() });
    let status = pools
        .list_pools(ListPoolsRequest { page_size: -5, filter, ..Default::default() })
        .await
        .expect_err("two bad fields");
    assert_invalid(&status, &["filter.token_mint", "page_size"]);
    Ok(())
}

#[tokio::test]
async fn updates_are_guarded_by_mask_and_etag() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let before = usdc(&mut tokens).await?;
    let update = |paths: &[&str], etag: &str| UpdateTokenRequest {
        token: Some(Token {
            id: before.id.clone(),
            name: "Renamed".to_owned(),
            etag: etag.to_owned(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: paths.iter().map(|&p| p.to_owned()).collect() }),
        request_id: String::new(),
    };
    for path in ["nmae", "mint", "token.name"] {
        let status = tokens.update_token(update(&[path], "")).await.expect_err("unknown path");
        assert_invalid(&status, &["update_mask"]);
    }
    let after = tokens.update_token(update(&["name"], &before.etag)).await?.into_inner();
    let after = after.token.expect("the updated token");
    assert_eq!((after.name.as_str(), after.symbol.as_str()), ("Renamed", "USDC"));
    assert!(after.version > before.version, "{} > {}", after.version, before.version);
    assert_eq!(usdc(&mut tokens).await?, after, "the next read sees the write");

    let status = tokens.update_token(update(&["name"], &before.etag)).await.expect_err("stale");
    assert_error(&status, Code::Aborted);
    let delete =
        DeleteTokenRequest { id: before.id.clone(), etag: before.etag, ..Default::default() };
    let status = tokens.delete_token(delete).await.expect_err("stale etag");
    assert_error(&status, Code::Aborted);
    let used = DeleteTokenRequest { id: before.id, ..Default::default() };
    let status = tokens.delete_token(used).await.expect_err("pools use USDC");
    assert_error(&status, Code::FailedPrecondition);
    Ok(())
}

#[tokio::test]
async fn a_request_id_makes_a_create_happen_once() -> anyhow::Result<()> {
    let system = System::start().await?;
    let tokens = system.token_client().await?;
    let request_id = Uuid::new_v4().to_string();
    let request =
        CreateTokenRequest { token: Some(token(UNUSED_MINT, 3)), request_id: request_id.clone() };
    let calls = (0..20).map(|_| {
        let (mut tokens, request) = (tokens.clone(), request.clone());
        async move { tokens.create_token(request).await }
    });
    let mut ids = Vec::new();
    for reply in futures_util::future::join_all(calls).await {
        ids.push(reply?.into_inner().token.expect("the created token").id);
    }
    ids.dedup();
    assert_eq!(ids.len(), 1, "one effect, one reply: {ids:?}");

    let other = CreateTokenRequest { token: Some(token(UNUSED_MINT, 4)), request_id };
    let status = tokens.clone().create_token(other).await.expect_err("another request");
    assert_invalid(&status, &["request_id"]);
    Ok(())
}

#[tokio::test]
async fn pools_of_unknown_tokens_are_refused() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut pools = system.pool_client().await?;
    let pool = Pool {
        pool_address: UNUSED_MINT.to_owned(),
        dex: "orca".to_owned(),
        base_mint: UNUSED_MINT.to_owned(),
        quote_mint: USDC.to_owned(),
        base_vault: SOL.to_owned(),
        quote_vault: SOL.to_owned(),
        lp_mint: SOL_USDC_POOL.to_owned(),
        lp_decimals: 6,
        curve: 1,
        trade_fee_bps: 25,
        owner_fee_bps: 5,
        name: "test".to_owned(),
        ..Default::default()
    };
    let unknown = CreatePoolRequest { pool: Some(pool.clone()), request_id: String::new() };
    let status = pools.create_pool(unknown).await.expect_err("the base token is unknown");
    assert_error(&status, Code::FailedPrecondition);

    let known = Pool { base_mint: SOL.to_owned(), ..pool };
    let request = CreatePoolRequest { pool: Some(known), request_id: String::new() };
    let created = pools.create_pool(request).await?.into_inner().pool.expect("a pool");
    assert!(!created.base_token_id.is_empty() && !created.quote_token_id.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_details() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    // 4 MiB + 1 of text: the message is a little larger still.
    let huge = Token { name: "x".repeat((4 << 20) + 1), ..token(UNUSED_MINT, 6) };
    let request = CreateTokenRequest { token: Some(huge), request_id: String::new() };
    let status = tokens.create_token(request).await.expect_err("too large");
    assert_error(&status, Code::ResourceExhausted);
    usdc(&mut tokens).await?;
    Ok(())
}
