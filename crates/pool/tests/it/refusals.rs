//! Writes that are refused change nothing.

use forebay_grpc::etag;
use forebay_proto::pool::v1::Pool;
use forebay_testkit as testkit;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{
    SOL_USDC, System, UNUSED, UNUSED_ID, USDC, assert_bad_fields, assert_refused, create_request,
    delete_request, lookup, pool, update_request,
};

#[tokio::test]
async fn mints_of_no_token_are_named() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let other = format!("{}2", "1".repeat(31));
    let cases: [(Pool, &[&str]); 3] = [
        (Pool { base_mint: UNUSED.to_owned(), ..pool(UNUSED) }, &["pool.base_mint"]),
        (Pool { quote_mint: UNUSED.to_owned(), ..pool(UNUSED) }, &["pool.quote_mint"]),
        (
            Pool { base_mint: UNUSED.to_owned(), quote_mint: other, ..pool(UNUSED) },
            &["pool.base_mint", "pool.quote_mint"],
        ),
    ];
    for (pool, fields) in cases {
        let status = client.create_pool(create_request(pool, "")).await.expect_err("unknown");
        assert_refused(&status, Code::FailedPrecondition, "TOKEN_UNKNOWN");
        let failure = status.get_details_precondition_failure().expect("it says which");
        assert_eq!(failure.violations.len(), fields.len());
        for (violation, field) in failure.violations.iter().zip(fields) {
            assert!(violation.description.contains(field), "{violation:?}");
        }
    }
}

#[tokio::test]
async fn what_never_changes_is_refused_to_change() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let before = lookup(&mut client, SOL_USDC).await;

    let status = client.create_pool(create_request(pool(SOL_USDC), "")).await;
    assert_refused(&status.expect_err("taken"), Code::AlreadyExists, "ADDRESS_TAKEN");

    let changed = Pool {
        pool_address: UNUSED.to_owned(),
        dex: "raydium".to_owned(),
        base_mint: USDC.to_owned(),
        quote_mint: UNUSED.to_owned(),
        ..before.clone()
    };
    let status = client.update_pool(update_request(changed, &[])).await.expect_err("immutable");
    let fields = ["pool.base_mint", "pool.dex", "pool.pool_address", "pool.quote_mint"];
    assert_bad_fields(&status, &fields);

    assert_eq!(lookup(&mut client, SOL_USDC).await, before);
}

#[tokio::test]
async fn a_stale_etag_and_an_unknown_id_stop_a_write() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let before = lookup(&mut client, SOL_USDC).await;
    let stale = etag::encode(before.version - 1);

    let changed = Pool { etag: stale.clone(), name: "x".to_owned(), ..before.clone() };
    let status = client.update_pool(update_request(changed, &["name"])).await;
    assert_refused(&status.expect_err("stale"), Code::Aborted, "ETAG_STALE");
    let status = client.delete_pool(delete_request(&before.id, &stale)).await;
    assert_refused(&status.expect_err("stale"), Code::Aborted, "ETAG_STALE");

    let unknown = Pool { id: UNUSED_ID.to_owned(), name: "x".to_owned(), ..Pool::default() };
    let status = client.update_pool(update_request(unknown, &["name"])).await;
    assert_refused(&status.expect_err("unknown"), Code::NotFound, "POOL_NOT_FOUND");
    let status = client.delete_pool(delete_request(UNUSED_ID, "")).await;
    assert_refused(&status.expect_err("unknown"), Code::NotFound, "POOL_NOT_FOUND");

    assert_eq!(lookup(&mut client, SOL_USDC).await, before);
}

/// tonic's own limit would refuse this one with another code, although ours allows it.
#[tokio::test]
async fn a_request_within_the_limit_of_the_server_is_read_whole() {
    let database = testkit::database().await;
    let system = System::on(&database).await;
    let long = Pool { name: "x".repeat(5 << 20), ..pool(UNUSED) };
    let status = system.client().create_pool(create_request(long, "")).await;
    assert_bad_fields(&status.expect_err("a long name"), &["pool.name"]);
}
