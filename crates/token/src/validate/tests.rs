//! Which fields of a request are named as bad.

use forebay_proto::token::v1 as pb;
use tonic_types::StatusExt as _;

use super::*;

const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const ID: &str = "0198c0de-0000-7000-8000-000000000001";

/// Asserts which fields are bad, in any order; none means that the request is valid.
#[track_caller]
fn check<T>(result: Result<T, FieldViolations>, expected: &[&str]) {
    let mut fields: Vec<String> = match result {
        Ok(_) => Vec::new(),
        Err(bad) => {
            let status = bad.into_status("token.forebay");
            let details = status.get_details_bad_request().expect("it is a bad request");
            details.field_violations.into_iter().map(|violation| violation.field).collect()
        }
    };
    fields.sort_unstable();
    assert_eq!(fields, expected);
}

fn token() -> pb::Token {
    pb::Token {
        mint: USDC.to_owned(),
        symbol: "USDC".to_owned(),
        name: "USD Coin".to_owned(),
        decimals: 6,
        ..pb::Token::default()
    }
}

fn check_create(token: pb::Token, expected: &[&str]) {
    check(
        create(pb::CreateTokenRequest { token: Some(token), request_id: String::new() }),
        expected,
    );
}

fn check_update(paths: &[&str], token: pb::Token, expected: &[&str]) {
    let update_mask = (!paths.is_empty()).then(|| prost_types::FieldMask {
        paths: paths.iter().map(|&path| path.to_owned()).collect(),
    });
    let request = pb::UpdateTokenRequest { token: Some(token), update_mask, ..Default::default() };
    check(update(request), expected);
}

#[test]
fn a_creation_names_every_bad_field() {
    check_create(token(), &[]);
    check_create(pb::Token { decimals: 255, ..token() }, &[]);
    check_create(pb::Token { decimals: 256, ..token() }, &["token.decimals"]);
    check_create(pb::Token { symbol: "x".repeat(65), ..token() }, &["token.symbol"]);
    check_create(pb::Token { name: " \0".to_owned(), ..token() }, &["token.name"]);
    check_create(pb::Token { logo_uri: "x".repeat(2049), ..token() }, &["token.logo_uri"]);
    let tags = vec!["ok".to_owned(), String::new(), "x".repeat(65)];
    check_create(pb::Token { tags, ..token() }, &["token.tags[1]", "token.tags[2]"]);
    let tags = vec!["x".to_owned(); 33];
    check_create(pb::Token { tags, ..token() }, &["token.tags"]);
    let extensions = [(String::new(), "x".repeat(4097))].into();
    check_create(pb::Token { extensions, ..token() }, &["token.extensions", "token.extensions"]);
    // What only the server sets is ignored, however wrong.
    let output = pb::Token { id: "x".to_owned(), etag: "x".to_owned(), version: -1, ..token() };
    check_create(output, &[]);

    let empty = pb::Token::default();
    let all = ["request_id", "token.mint", "token.name", "token.symbol"];
    let request = pb::CreateTokenRequest { token: Some(empty), request_id: "x".to_owned() };
    check(create(request), &all);
    let request = pb::CreateTokenRequest { token: None, request_id: "x".to_owned() };
    check(create(request), &["request_id", "token"]);
}

#[test]
fn an_update_checks_what_its_mask_names() {
    let id = || pb::Token { id: ID.to_owned(), ..pb::Token::default() };
    check_update(&[], id(), &[]);
    check_update(&["decimals"], id(), &[]);
    check_update(&["name"], id(), &["token.name"]);
    check_update(&["*"], id(), &["token.name", "token.symbol"]);
    check_update(&["decimals"], pb::Token { symbol: "x".repeat(65), ..id() }, &[]);
    check_update(&[], pb::Token { symbol: "x".repeat(65), ..id() }, &["token.symbol"]);
    check_update(&["mint"], id(), &["update_mask"]);
    check_update(&["nmae", "*"], id(), &["update_mask", "update_mask"]);
    check_update(
        &["nmae"],
        pb::Token { decimals: 256, ..id() },
        &["token.decimals", "update_mask"],
    );
    // The mint matters only where it could be meant to change.
    check_update(&["name"], pb::Token { mint: "x".into(), name: "n".into(), ..id() }, &[]);
    check_update(&[], pb::Token { mint: "l".into(), ..id() }, &["token.mint"]);
    let bad = pb::Token { id: "x".into(), etag: "x".into(), ..pb::Token::default() };
    check_update(&[], bad, &["token.etag", "token.id"]);
    check(update(pb::UpdateTokenRequest::default()), &["token"]);
}

#[test]
fn keys_are_checked_one_by_one() {
    let ids = vec![ID.to_owned(), "x".to_owned()];
    let mints = vec!["0".to_owned(), USDC.to_owned()];
    check(batch(&pb::BatchGetTokensRequest { ids, mints }), &["ids[1]", "mints[0]"]);
    check(batch(&pb::BatchGetTokensRequest::default()), &[]);
    let (many, one) = (vec!["x".to_owned(); 1000], vec!["x".to_owned()]);
    let ids =
        pb::BatchGetTokensRequest { ids: [many.clone(), one.clone()].concat(), mints: vec![] };
    check(batch(&ids), &["ids"]);
    check(batch(&pb::BatchGetTokensRequest { ids: one, mints: many }), &["mints"]);

    check(get(&pb::GetTokenRequest { id: ID.to_uppercase() }), &[]);
    check(get(&pb::GetTokenRequest { id: ID.replace('-', "") }), &["id"]);
    check(lookup(&pb::LookupTokenRequest { mint: "1".repeat(31) }), &["mint"]);
    check(lookup(&pb::LookupTokenRequest { mint: "1".repeat(32) }), &[]);

    let bad = "x".to_owned();
    let request = pb::DeleteTokenRequest { id: bad.clone(), etag: bad.clone(), request_id: bad };
    check(delete(&request), &["etag", "id", "request_id"]);
}
