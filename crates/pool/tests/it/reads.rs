//! Single pools and batches.

use forebay_proto::pool::v1::{
    BatchGetPoolsRequest, Curve, GetPoolRequest, LookupPoolRequest, Pool,
};
use forebay_testkit as testkit;
use prost::Message as _;
use tonic::Code;

use crate::fixture::{
    SOL, SOL_USDC, System, UNUSED, UNUSED_ID, USDC, assert_bad_fields, assert_refused, create, get,
    lookup, pool,
};

#[tokio::test]
async fn a_pool_is_the_same_by_id_by_address_and_in_a_batch() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let pool = lookup(&mut client, SOL_USDC).await;
    assert_eq!(
        (pool.dex.as_str(), pool.base_mint.as_str(), pool.quote_mint.as_str()),
        ("orca", SOL, USDC)
    );
    assert_eq!(
        (pool.curve(), pool.trade_fee_bps, pool.owner_fee_bps),
        (Curve::ConstantProduct, 25, 5)
    );
    assert!(pool.version > 0 && !pool.etag.is_empty() && pool.create_time.is_some());
    assert!(!pool.base_token_id.is_empty() && !pool.quote_token_id.is_empty());
    // Each of these is answered twice: by Postgres and by the cache.
    for _ in 0..2 {
        assert_eq!(get(&mut client, &pool.id).await, pool);
        assert_eq!(lookup(&mut client, SOL_USDC).await, pool);
        let request = BatchGetPoolsRequest {
            ids: vec![UNUSED_ID.to_owned(), pool.id.clone()],
            pool_addresses: vec![SOL_USDC.to_owned(), UNUSED.to_owned(), SOL_USDC.to_owned()],
        };
        let reply = client.batch_get_pools(request).await.expect("a valid batch").into_inner();
        assert_eq!(reply.pools, [pool.clone(), pool.clone(), pool.clone()]);
        assert_eq!(reply.missing, [UNUSED_ID, UNUSED]);
    }
}

#[tokio::test]
async fn unknown_is_not_malformed() {
    let database = testkit::database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    for _ in 0..2 {
        let request = GetPoolRequest { id: UNUSED_ID.to_owned() };
        let status = client.get_pool(request).await.expect_err("there is none");
        assert_refused(&status, Code::NotFound, "POOL_NOT_FOUND");
        let request = LookupPoolRequest { pool_address: UNUSED.to_owned() };
        let status = client.lookup_pool(request).await.expect_err("there is none");
        assert_refused(&status, Code::NotFound, "POOL_NOT_FOUND");
    }
    let request = GetPoolRequest { id: "42".to_owned() };
    let status = client.get_pool(request).await.expect_err("malformed");
    assert_bad_fields(&status, &["id"]);
    let request = LookupPoolRequest { pool_address: "1".repeat(31) };
    let status = client.lookup_pool(request).await.expect_err("malformed");
    assert_bad_fields(&status, &["pool_address"]);
}

/// Pools are short, so no reply needs a bound in bytes: clients take 4 MiB without being asked.
#[tokio::test]
async fn a_batch_of_a_thousand_of_the_longest_pools_fits_into_a_reply() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let longest = Pool {
        dex: "x".repeat(32),
        pool_address: SOL.to_owned(),
        name: "\u{10ffff}".repeat(128),
        trade_fee_bps: 10_000,
        ..pool(UNUSED)
    };
    create(&mut client, longest).await;
    let request =
        BatchGetPoolsRequest { pool_addresses: vec![SOL.to_owned(); 1000], ..Default::default() };
    let reply = client.batch_get_pools(request).await.expect("a valid batch").into_inner();
    assert_eq!(reply.pools.len(), 1000);
    assert!(reply.encoded_len() < 3 << 20, "{} bytes", reply.encoded_len());
}
