//! Which fields of a request are named as bad.

use forebay_proto::pool::v1 as pb;
use tonic_types::StatusExt as _;

use super::*;

const SOL: &str = "So11111111111111111111111111111111111111112";
const USDC: &str = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
const ID: &str = "0198c0de-0000-7000-8000-000000000001";

/// Asserts which fields are bad, in any order; none means that the request is valid.
#[track_caller]
fn check<T>(result: Result<T, FieldViolations>, expected: &[&str]) {
    let mut fields: Vec<String> = match result {
        Ok(_) => Vec::new(),
        Err(bad) => {
            let status = bad.into_status("pool.forebay");
            let details = status.get_details_bad_request().expect("it is a bad request");
            details.field_violations.into_iter().map(|violation| violation.field).collect()
        }
    };
    fields.sort_unstable();
    assert_eq!(fields, expected);
}

fn pool() -> pb::Pool {
    pb::Pool {
        pool_address: SOL.to_owned(),
        dex: "orca".to_owned(),
        base_mint: SOL.to_owned(),
        quote_mint: USDC.to_owned(),
        base_vault: SOL.to_owned(),
        quote_vault: USDC.to_owned(),
        lp_mint: SOL.to_owned(),
        curve: pb::Curve::Stable.into(),
        name: "SOL/USDC".to_owned(),
        ..pb::Pool::default()
    }
}

fn check_create(pool: pb::Pool, expected: &[&str]) {
    let request = pb::CreatePoolRequest { pool: Some(pool), request_id: String::new() };
    check(create(request), expected);
}

fn check_update(paths: &[&str], pool: pb::Pool, expected: &[&str]) {
    let paths = paths.iter().map(|&path| path.to_owned()).collect();
    let update_mask = Some(prost_types::FieldMask { paths });
    let request = pb::UpdatePoolRequest { pool: Some(pool), update_mask, ..Default::default() };
    check(update(request), expected);
}

#[test]
fn a_creation_names_every_bad_field() {
    check_create(pool(), &[]);
    let limits = pb::Pool { trade_fee_bps: 10_000, owner_fee_bps: 0, lp_decimals: 255, ..pool() };
    check_create(limits, &[]);
    let over =
        pb::Pool { trade_fee_bps: 10_001, owner_fee_bps: u32::MAX, lp_decimals: 256, ..pool() };
    check_create(over, &["pool.lp_decimals", "pool.owner_fee_bps", "pool.trade_fee_bps"]);
    check_create(pb::Pool { curve: 3, ..pool() }, &["pool.curve"]);
    check_create(pb::Pool { dex: "Orca".to_owned(), ..pool() }, &["pool.dex"]);
    check_create(pb::Pool { quote_mint: SOL.to_owned(), ..pool() }, &["pool.quote_mint"]);
    let all = [
        "pool.base_mint",
        "pool.base_vault",
        "pool.curve",
        "pool.dex",
        "pool.lp_mint",
        "pool.name",
        "pool.pool_address",
        "pool.quote_mint",
        "pool.quote_vault",
        "request_id",
    ];
    let pool = Some(pb::Pool::default());
    check(create(pb::CreatePoolRequest { pool, request_id: "x".to_owned() }), &all);
    check(create(pb::CreatePoolRequest::default()), &["pool"]);
}

#[test]
fn an_update_checks_what_its_mask_names() {
    let id = || pb::Pool { id: ID.to_owned(), ..pb::Pool::default() };
    check_update(&[], id(), &[]);
    check_update(&["trade_fee_bps", "lp_decimals"], id(), &[]);
    check_update(&["curve", "name"], id(), &["pool.curve", "pool.name"]);
    check_update(&["base_mint"], id(), &["update_mask"]);
    check_update(&["name"], pb::Pool { dex: "X".into(), name: "n".into(), ..id() }, &[]);
    check_update(&[], pb::Pool { dex: "X".into(), ..id() }, &["pool.dex"]);
    let immutable = pb::Pool {
        pool_address: "0".to_owned(),
        base_mint: "0".to_owned(),
        quote_mint: "0".to_owned(),
        ..id()
    };
    check_update(&[], immutable, &["pool.base_mint", "pool.pool_address", "pool.quote_mint"]);
    let bad = pb::Pool { id: "x".into(), etag: "x".into(), ..pb::Pool::default() };
    check_update(&[], bad, &["pool.etag", "pool.id"]);
    check(update(pb::UpdatePoolRequest::default()), &["pool"]);
}

#[test]
fn keys_are_checked_one_by_one() {
    let ids = vec![ID.to_owned(), "x".to_owned()];
    let pool_addresses = vec!["0".to_owned(), USDC.to_owned()];
    let request = pb::BatchGetPoolsRequest { ids, pool_addresses };
    check(batch(&request), &["ids[1]", "pool_addresses[0]"]);
    let request = pb::BatchGetPoolsRequest {
        ids: vec!["x".to_owned()],
        pool_addresses: vec!["x".to_owned(); 1000],
    };
    check(batch(&request), &["pool_addresses"]);
    check(get(&pb::GetPoolRequest::default()), &["id"]);
    check(lookup(&pb::LookupPoolRequest::default()), &["pool_address"]);
    let bad = "x".to_owned();
    let request = pb::DeletePoolRequest { id: bad.clone(), etag: bad.clone(), request_id: bad };
    check(delete(&request), &["etag", "id", "request_id"]);
}
