//! Pages of pools.

use forebay_proto::pool::v1::{ListPoolsRequest, MintPair, Pool, PoolFilter};
use forebay_testkit as testkit;

use crate::fixture::{Client, SOL, SOL_USDC, System, UNUSED, USDC, assert_bad_fields};

async fn pages(client: &mut Client, filter: &PoolFilter, page_size: i32) -> Vec<Pool> {
    let mut pools = Vec::new();
    let mut page_token = String::new();
    loop {
        let filter = Some(filter.clone());
        let request = ListPoolsRequest { page_size, page_token, filter };
        let reply = client.list_pools(request).await.expect("a valid list").into_inner();
        assert!(!reply.pools.is_empty() || pools.is_empty(), "only the first page may be empty");
        pools.extend(reply.pools);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return pools;
        }
    }
}

fn filter(token: &str, pair: Option<(&str, &str)>, dex: &str) -> PoolFilter {
    PoolFilter {
        token_mint: token.to_owned(),
        pair: pair.map(|(first, second)| MintPair {
            first_mint: first.to_owned(),
            second_mint: second.to_owned(),
        }),
        dex: dex.to_owned(),
    }
}

fn has(pool: &Pool, mint: &str) -> bool {
    pool.base_mint == mint || pool.quote_mint == mint
}

#[tokio::test]
async fn every_combination_of_filters_finds_what_a_full_scan_finds() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let all = pages(&mut client, &PoolFilter::default(), 1000).await;
    assert_eq!(all.len(), 134);
    assert!(all.is_sorted_by(|a, b| a.pool_address.as_bytes() < b.pool_address.as_bytes()));

    let mut matched = 0;
    let pairs = [None, Some((SOL, USDC)), Some((USDC, SOL)), Some((USDC, UNUSED))];
    for token in ["", SOL, USDC, UNUSED] {
        for pair in pairs {
            for dex in ["", "orca", "raydium"] {
                let expected: Vec<&Pool> = all
                    .iter()
                    .filter(|pool| token.is_empty() || has(pool, token))
                    .filter(|pool| pair.is_none_or(|(a, b)| has(pool, a) && has(pool, b)))
                    .filter(|pool| dex.is_empty() || pool.dex == dex)
                    .collect();
                let found = pages(&mut client, &filter(token, pair, dex), 3).await;
                let found: Vec<&Pool> = found.iter().collect();
                assert_eq!(found, expected, "{token:?} {pair:?} {dex:?}");
                matched += usize::from(!expected.is_empty());
            }
        }
    }
    assert!(matched >= 12, "the filters are worth testing: {matched} of them match");
}

#[tokio::test]
async fn the_pool_of_sol_and_usdc_is_found_by_either_mint() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    for mint in [SOL, USDC] {
        let found = pages(&mut client, &filter(mint, None, ""), 1000).await;
        assert!(found.iter().any(|pool| pool.pool_address == SOL_USDC), "by {mint}");
    }
}

#[tokio::test]
async fn bad_pages_name_their_fields() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let first = ListPoolsRequest { page_size: 1, ..Default::default() };
    let page_token = client.list_pools(first).await.expect("a page").into_inner().next_page_token;
    let cases: [(PoolFilter, i32, &str, &[&str]); 5] = [
        (PoolFilter::default(), -1, "x", &["page_size", "page_token"]),
        (
            filter("0", Some(("", "l")), "Orca"),
            0,
            "",
            &[
                "filter.dex",
                "filter.pair.first_mint",
                "filter.pair.second_mint",
                "filter.token_mint",
            ],
        ),
        (filter("", Some((SOL, SOL)), ""), 0, "", &["filter.pair.second_mint"]),
        (filter(SOL, None, ""), 0, &page_token, &["page_token"]),
        (filter("", None, "orca"), 0, &page_token, &["page_token"]),
    ];
    for (filter, page_size, page_token, fields) in cases {
        let request =
            ListPoolsRequest { page_size, page_token: page_token.to_owned(), filter: Some(filter) };
        let status = client.list_pools(request).await.expect_err("a bad page");
        assert_bad_fields(&status, fields);
    }
}
