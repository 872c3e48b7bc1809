//! Hits are answered with the bytes that the cache holds.

use forebay_proto::pool::v1 as pb;
use forebay_proto::pool::v1_stored::pool_service_server::PoolService as _;
use forebay_testkit as testkit;
use prost::Message as _;
use tonic::Request;

use crate::fixture::System;
use crate::raw;

/// Every pool of the seed data, read by id and by address from Postgres and from L1, and in batches:
/// each reply is exactly what prost makes of the real message. Fails when the number, the type or
/// the order of a field of a reply differs from the contract.
#[tokio::test]
async fn replies_are_what_prost_would_encode() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let (service, mut client) = (system.service(), system.client());
    let mut page_token = String::new();
    let (mut replies, mut bytes) = (0, 0);
    loop {
        let request = pb::ListPoolsRequest { page_size: 1000, page_token, ..Default::default() };
        let page = client.list_pools(request).await.expect("a page").into_inner();
        let batch = pb::BatchGetPoolsRequest {
            ids: page.pools.iter().map(|pool| pool.id.clone()).collect(),
            pool_addresses: Vec::new(),
        };
        let path = "/forebay.pool.v1.PoolService/BatchGetPools";
        let reply = raw::call(system.channel(), path, batch.encode_to_vec()).await;
        let expected = pb::BatchGetPoolsResponse { pools: page.pools, missing: Vec::new() };
        assert!(reply == expected.encode_to_vec(), "a batch differs");
        for pool in &expected.pools {
            let expected = pb::GetPoolResponse { pool: Some(pool.clone()) }.encode_to_vec();
            let request = pb::GetPoolRequest { id: pool.id.clone() };
            let by_id = service.get_pool(Request::new(request)).await.expect("seeded");
            assert_eq!(by_id.get_ref().encode_to_vec(), expected, "{}", pool.id);
            let request = pb::LookupPoolRequest { pool_address: pool.pool_address.clone() };
            let by_address = service.lookup_pool(Request::new(request)).await.expect("seeded");
            assert_eq!(by_address.get_ref().encode_to_vec(), expected, "{}", pool.pool_address);
            replies += 2;
            bytes += 2 * expected.len();
        }
        // What the server adds is the same for all of them, so one of a page is read off the wire.
        let pool = expected.pools.first().expect("no page is empty");
        let expected = pb::GetPoolResponse { pool: Some(pool.clone()) }.encode_to_vec();
        let by_id = pb::GetPoolRequest { id: pool.id.clone() }.encode_to_vec();
        let by_address =
            pb::LookupPoolRequest { pool_address: pool.pool_address.clone() }.encode_to_vec();
        let path = "/forebay.pool.v1.PoolService/GetPool";
        assert_eq!(raw::call(system.channel(), path, by_id).await, expected);
        let path = "/forebay.pool.v1.PoolService/LookupPool";
        assert_eq!(raw::call(system.channel(), path, by_address).await, expected);
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
    let system = System::on(&database).await;
    let service = system.service();
    let request = || {
        Request::new(pb::LookupPoolRequest { pool_address: crate::fixture::SOL_USDC.to_owned() })
    };
    let first = service.lookup_pool(request()).await.expect("seeded").into_inner().pool;
    let second = service.lookup_pool(request()).await.expect("seeded").into_inner().pool;
    assert_eq!((first.as_ptr(), first.len()), (second.as_ptr(), second.len()));
    let id = pb::Pool::decode(first).expect("a pool").id;
    let request = || Request::new(pb::GetPoolRequest { id: id.clone() });
    let first = service.get_pool(request()).await.expect("seeded").into_inner().pool;
    let batch = pb::BatchGetPoolsRequest { ids: vec![id.clone()], pool_addresses: Vec::new() };
    let batch = service.batch_get_pools(Request::new(batch)).await.expect("seeded").into_inner();
    assert_eq!(first.as_ptr(), batch.pools[0].as_ptr());
}

#[expect(clippy::print_stderr, reason = "a figure for whoever reads the log of the test")]
fn report(line: &str) {
    eprintln!("{line}");
}
