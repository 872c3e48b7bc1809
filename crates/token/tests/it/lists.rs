//! Pages of tokens.

use std::collections::BTreeSet;

use forebay_proto::token::v1::{BatchGetTokensRequest, ListTokensRequest, Token, TokenFilter};
use forebay_testkit as testkit;
use prost::Message;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{
    Client, Service, UNUSED_MINT, assert_bad_fields, assert_refused, create, lookup, token,
};

async fn pages(
    client: &mut Client,
    filter: Option<TokenFilter>,
    page_size: i32,
) -> Vec<Vec<Token>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTokensRequest { page_size, page_token, filter: filter.clone() };
        let reply = client.list_tokens(request).await.expect("a valid list").into_inner();
        pages.push(reply.tokens);
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

fn filter(symbol: &str, tag: &str, name_prefix: &str) -> Option<TokenFilter> {
    Some(TokenFilter {
        symbol: symbol.to_owned(),
        tag: tag.to_owned(),
        name_prefix: name_prefix.to_owned(),
    })
}

#[tokio::test]
async fn pages_hold_every_token_once_in_the_order_of_mints() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    // 13053 is 57 times 229: there the last page is full and must not be followed by an empty one.
    for (page_size, expected_pages) in [(1000, 14), (5000, 14), (229, 57)] {
        let pages = pages(&mut client, None, page_size).await;
        assert_eq!(pages.len(), expected_pages);
        assert!(pages.iter().all(|page| !page.is_empty()));
        let mints: Vec<_> = pages.iter().flatten().map(|token| token.mint.as_str()).collect();
        assert_eq!(mints.len(), 13_053);
        assert!(mints.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
    }
    let first = client.list_tokens(ListTokensRequest::default()).await.expect("a page");
    assert_eq!(first.into_inner().tokens.len(), 50);
}

#[tokio::test]
async fn every_combination_of_filters_finds_what_a_full_scan_finds() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let all: Vec<Token> = pages(&mut client, None, 1000).await.into_iter().flatten().collect();
    let filters = [
        ("USDC", "", ""),
        ("usdc", "", ""),
        ("", "wrapped", ""),
        ("", "no such tag", ""),
        ("", "", "wRaPPed"),
        ("", "", " "),
        ("", "", "È"),
        // Wildcards of LIKE are letters like any other.
        ("", "", "%"),
        ("", "", "_rapped"),
        ("", "", "\\"),
        ("USDC", "wrapped", ""),
        ("USDC", "", "usd"),
        ("", "wrapped", "Wrapped"),
        ("", "wormhole", "u"),
        ("SOL", "wrapped", "wrap"),
    ];
    let mut matched = 0;
    for (symbol, tag, prefix) in filters {
        let lower = prefix.to_lowercase();
        let expected: Vec<&Token> = all
            .iter()
            .filter(|token| symbol.is_empty() || token.symbol == symbol)
            .filter(|token| tag.is_empty() || token.tags.iter().any(|it| it == tag))
            .filter(|token| token.name.to_lowercase().starts_with(&lower))
            .collect();
        let found = pages(&mut client, filter(symbol, tag, prefix), 7).await;
        let found: Vec<Token> = found.into_iter().flatten().collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{symbol:?} {tag:?} {prefix:?}");
        matched += usize::from(!expected.is_empty());
    }
    assert!(matched >= 6, "the filters are worth testing: {matched} of them match");
}

#[tokio::test]
async fn bad_pages_name_their_fields() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let first = ListTokensRequest { page_size: 1, ..Default::default() };
    let page_token = client.list_tokens(first).await.expect("a page").into_inner().next_page_token;
    let list = |page_size, page_token: &str, filter| ListTokensRequest {
        page_size,
        page_token: page_token.to_owned(),
        filter,
    };
    let cases: [(ListTokensRequest, &[&str]); 5] = [
        (list(-1, "", None), &["page_size"]),
        (list(0, "x", None), &["page_token"]),
        (
            list(-1, "x", filter("\0", "\0", "\0")),
            &["filter.name_prefix", "filter.symbol", "filter.tag", "page_size", "page_token"],
        ),
        (list(0, &page_token, filter("USDC", "", "")), &["page_token"]),
        (list(0, &format!("{page_token}A"), None), &["page_token"]),
    ];
    for (request, fields) in cases {
        let status = client.list_tokens(request).await.expect_err("a bad page");
        assert_bad_fields(&status, fields);
    }
    // Another size with the same token only makes the page longer.
    let second = client.list_tokens(list(5, &page_token, None)).await.expect("a page");
    assert_eq!(second.into_inner().tokens.len(), 5);
}

#[tokio::test]
async fn rows_that_come_and_go_neither_repeat_nor_hide_others() {
    let database = testkit::seeded_database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let connection = database.connect().await;
    let mut seen = BTreeSet::new();
    let mut page_token = String::new();
    loop {
        let request = ListTokensRequest { page_size: 1000, page_token, filter: None };
        let reply = client.list_tokens(request).await.expect("a page").into_inner();
        for token in reply.tokens {
            assert!(seen.insert(token.mint), "a token came twice");
        }
        page_token = reply.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // The row under the cursor goes away: the next page must not depend on it.
        let last = seen.last().expect("the page had rows");
        connection
            .client()
            .execute(
                "DELETE FROM tokens t WHERE mint = $1 AND NOT EXISTS
                    (SELECT FROM pools WHERE t.id IN (base_token_id, quote_token_id))",
                &[last],
            )
            .await
            .expect("the row can go");
    }
    assert_eq!(seen.len(), 13_053);
}

/// A token of a quarter of a mebibyte.
fn long_token() -> Token {
    let extensions = (0..64).map(|n| (format!("key{n}"), "x".repeat(4096))).collect();
    Token { extensions, ..token(UNUSED_MINT) }
}

/// A page that is cut by rows alone would be of 5 MiB here, and the usual client refuses 4.
#[tokio::test]
async fn a_page_of_long_tokens_is_shorter() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let long = long_token();
    let alphabet = "123456789ABCDEFGHJKL";
    for last in alphabet.chars() {
        let mint = format!("{}{last}", "1".repeat(31));
        create(&mut client, Token { mint, ..long.clone() }).await;
    }
    let pages = pages(&mut client, None, 1000).await;
    assert_eq!(pages.len(), 2);
    assert_eq!(pages.iter().map(Vec::len).sum::<usize>(), alphabet.len());
    for page in pages {
        let bytes: usize = page.iter().map(Message::encoded_len).sum();
        assert!(bytes < 4 << 20, "{bytes} bytes");
    }
}

/// Without the bound the reply would be of 3.5 MiB here and, asked for more, of hundreds.
#[tokio::test]
async fn a_batch_of_long_tokens_must_be_shorter() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let long = create(&mut client, long_token()).await;
    let batch = |ids, mints| BatchGetTokensRequest {
        ids: vec![long.id.clone(); ids],
        mints: vec![long.mint.clone(); mints],
    };
    for (ids, mints) in [(14, 0), (0, 14), (7, 7)] {
        let status = client.batch_get_tokens(batch(ids, mints)).await.expect_err("too much");
        assert_refused(&status, Code::ResourceExhausted, "REPLY_TOO_LARGE");
        let quota = status.get_details_quota_failure().expect("it names the limit");
        assert!(quota.violations[0].description.contains("ask for fewer"), "{quota:?}");
    }
    let reply = client.batch_get_tokens(batch(5, 5)).await.expect("a batch").into_inner();
    assert_eq!(reply.tokens, vec![lookup(&mut client, UNUSED_MINT).await; 10]);
}
