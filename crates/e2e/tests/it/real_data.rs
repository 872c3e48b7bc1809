//! What a caller finds on the first day: every real token and pool.

use std::collections::BTreeSet;

use forebay_e2e::{SEEDED_POOLS, SEEDED_TOKENS, SOL, SOL_USDC_POOL, System, USDC};
use forebay_proto::pool::v1::{ListPoolsRequest, MintPair, PoolFilter};
use forebay_proto::token::v1::{
    BatchGetTokensRequest, GetTokenRequest, ListTokensRequest, LookupTokenRequest, TokenFilter,
};

#[tokio::test]
async fn usdc_is_found_by_mint_and_by_id() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let lookup = LookupTokenRequest { mint: USDC.to_owned() };
    let by_mint = tokens.lookup_token(lookup).await?.into_inner().token.expect("a token");
    assert_eq!((by_mint.symbol.as_str(), by_mint.decimals), ("USDC", 6));
    assert!(!by_mint.etag.is_empty(), "a token carries its etag");

    let get = GetTokenRequest { id: by_mint.id.clone() };
    let by_id = tokens.get_token(get).await?.into_inner().token.expect("a token");
    assert_eq!(by_id, by_mint);
    Ok(())
}

#[tokio::test]
async fn pages_hold_every_token_once() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let mut mints = Vec::new();
    let mut request = ListTokensRequest { page_size: 997, ..Default::default() };
    loop {
        let page = tokens.list_tokens(request.clone()).await?.into_inner();
        mints.extend(page.tokens.into_iter().map(|token| token.mint));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(mints.len(), SEEDED_TOKENS);
    assert!(mints.is_sorted(), "pages are ordered by mint");
    assert_eq!(mints.iter().collect::<BTreeSet<_>>().len(), SEEDED_TOKENS, "no duplicate");
    Ok(())
}

#[tokio::test]
async fn filters_select_tokens() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    let cases = [
        TokenFilter { symbol: "USDC".to_owned(), ..Default::default() },
        TokenFilter { tag: "stablecoin".to_owned(), ..Default::default() },
        TokenFilter { name_prefix: "usd c".to_owned(), ..Default::default() },
    ];
    for filter in cases {
        let request = ListTokensRequest {
            page_size: 1000,
            filter: Some(filter.clone()),
            ..Default::default()
        };
        let page = tokens.list_tokens(request).await?.into_inner();
        assert!(
            page.tokens.iter().any(|token| token.mint == USDC),
            "USDC is not among the {} tokens of {filter:?}",
            page.tokens.len()
        );
        for token in page.tokens {
            assert!(filter.symbol.is_empty() || token.symbol == filter.symbol, "{token:?}");
            assert!(filter.tag.is_empty() || token.tags.contains(&filter.tag), "{token:?}");
            assert!(token.name.to_lowercase().starts_with(&filter.name_prefix), "{token:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_batch_keeps_the_order_asked_and_names_what_is_missing() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut tokens = system.token_client().await?;
    // The system program's address is a public key, but no token.
    let unknown = "11111111111111111111111111111111".to_owned();
    let request = BatchGetTokensRequest {
        ids: Vec::new(),
        mints: vec![USDC.to_owned(), unknown.clone(), SOL.to_owned()],
    };
    let batch = tokens.batch_get_tokens(request).await?.into_inner();
    let mints: Vec<_> = batch.tokens.iter().map(|token| token.mint.as_str()).collect();
    assert_eq!(mints, [USDC, SOL]);
    assert_eq!(batch.missing, [unknown]);
    Ok(())
}

#[tokio::test]
async fn the_sol_usdc_pool_is_found_from_either_side() -> anyhow::Result<()> {
    let system = System::start().await?;
    let mut pools = system.pool_client().await?;
    let pair = |first: &str, second: &str| PoolFilter {
        pair: Some(MintPair { first_mint: first.to_owned(), second_mint: second.to_owned() }),
        ..Default::default()
    };
    let side = |mint: &str| PoolFilter { token_mint: mint.to_owned(), ..Default::default() };
    for filter in [side(SOL), side(USDC), pair(SOL, USDC), pair(USDC, SOL)] {
        let request = ListPoolsRequest {
            page_size: 1000,
            filter: Some(filter.clone()),
            ..Default::default()
        };
        let page = pools.list_pools(request).await?.into_inner();
        assert!(
            page.pools.iter().any(|pool| pool.pool_address == SOL_USDC_POOL),
            "not among the {} pools of {filter:?}",
            page.pools.len()
        );
    }
    let all = ListPoolsRequest { page_size: 1000, ..Default::default() };
    assert_eq!(pools.list_pools(all).await?.into_inner().pools.len(), SEEDED_POOLS);
    Ok(())
}
