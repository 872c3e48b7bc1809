//! Creations, updates and deletions, and who sees them.

use forebay_proto::pool::v1::{Curve, GetPoolRequest, LookupPoolRequest, Pool};
use forebay_testkit as testkit;
use tonic::Code;

use crate::fixture::{
    Client, System, UNUSED, assert_bad_fields, assert_refused, create, create_request,
    delete_request, get, given, lookup, pool, update, update_request,
};

/// A request id of a caller.
pub(crate) const REQUEST_ID: &str = "0198c0de-0000-4000-8000-000000000002";

async fn assert_no_pool(client: &mut Client) {
    let request = LookupPoolRequest { pool_address: UNUSED.to_owned() };
    let status = client.lookup_pool(request).await.expect_err("there is none");
    assert_refused(&status, Code::NotFound, "POOL_NOT_FOUND");
}

/// Removed invalidation shows here: each read would go on giving what the read before it cached.
#[tokio::test]
async fn every_write_is_seen_by_the_next_read() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let mut versions = Vec::new();
    for _ in 0..2 {
        assert_no_pool(&mut client).await;

        let created = create(&mut client, pool(UNUSED)).await;
        assert_eq!(given(created.clone()), pool(UNUSED), "stored as it was given");
        assert_eq!(lookup(&mut client, UNUSED).await, created);
        assert_eq!(get(&mut client, &created.id).await, created);

        let changed = Pool { trade_fee_bps: 0, name: "Renamed".to_owned(), ..created.clone() };
        let updated = update(&mut client, changed.clone(), &["name", "trade_fee_bps"]).await;
        assert_eq!(given(updated.clone()), given(changed));
        assert_eq!(updated.base_token_id, created.base_token_id);
        assert_eq!(updated.create_time, created.create_time);
        assert_eq!(lookup(&mut client, UNUSED).await, updated);
        assert_eq!(get(&mut client, &created.id).await, updated);

        let request = delete_request(&created.id, &updated.etag);
        client.delete_pool(request).await.expect("the pool can be deleted");
        assert_no_pool(&mut client).await;
        let request = GetPoolRequest { id: created.id };
        let status = client.get_pool(request).await.expect_err("it was deleted");
        assert_refused(&status, Code::NotFound, "POOL_NOT_FOUND");
        versions.extend([created.version, updated.version]);
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?} grow, also across deletions");
}

#[tokio::test]
async fn a_mask_says_what_changes() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let old = create(&mut client, pool(UNUSED)).await;
    let bare = Pool { id: old.id.clone(), ..Pool::default() };
    let new = Pool {
        base_vault: UNUSED.to_owned(),
        quote_vault: UNUSED.to_owned(),
        lp_mint: UNUSED.to_owned(),
        curve: Curve::ConstantProduct.into(),
        name: "New".to_owned(),
        ..bare.clone()
    };
    let replaced = Pool {
        id: String::new(),
        pool_address: old.pool_address.clone(),
        dex: old.dex.clone(),
        base_mint: old.base_mint.clone(),
        quote_mint: old.quote_mint.clone(),
        ..new.clone()
    };
    let fee_only = Pool { owner_fee_bps: 1, ..bare.clone() };
    let one_bps = Pool { owner_fee_bps: 1, ..given(old.clone()) };
    let zero = Pool { lp_decimals: 0, owner_fee_bps: 0, ..given(old.clone()) };
    let cases: [(&Pool, &[&str], &Pool); 4] = [
        (&new, &["*"], &replaced),
        // Without a mask the fields that are set.
        (&fee_only, &[], &one_bps),
        // A mask is how a number becomes zero.
        (&bare, &["lp_decimals", "owner_fee_bps"], &zero),
        // The whole pool as it was read, sent back.
        (&old, &[], &given(old.clone())),
    ];
    for (sent, paths, expected) in cases {
        let unguarded = |pool: &Pool| Pool { etag: String::new(), ..pool.clone() };
        update(&mut client, unguarded(&old), &["*"]).await;
        let after = update(&mut client, unguarded(sent), paths).await;
        assert_eq!(given(after), *expected, "{paths:?}");
    }
    let now = get(&mut client, &old.id).await;
    assert_eq!(update(&mut client, bare, &[]).await, now, "nothing to change is no change");
}

#[tokio::test]
async fn a_request_id_makes_a_creation_happen_once() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let request = create_request(pool(UNUSED), REQUEST_ID);
    let first = client.create_pool(request.clone()).await.expect("a creation").into_inner();
    let again = client.create_pool(request.clone()).await.expect("a repetition").into_inner();
    assert_eq!(first, again);
    // Its first reply is due even when the token service has gone.
    system.kill_tokens();
    let again = client.create_pool(request).await.expect("a repetition").into_inner();
    assert_eq!(first, again);

    let other = Pool { name: "Other".to_owned(), ..pool(UNUSED) };
    let status = client.create_pool(create_request(other, REQUEST_ID)).await;
    assert_bad_fields(&status.expect_err("another request"), &["request_id"]);

    let id = first.pool.expect("a reply has its pool").id;
    let mut request =
        update_request(Pool { id, name: "Renamed".to_owned(), ..Pool::default() }, &[]);
    request.request_id = REQUEST_ID.to_owned();
    let first = client.update_pool(request.clone()).await.expect("an update").into_inner();
    let again = client.update_pool(request).await.expect("a repetition").into_inner();
    assert_eq!(first, again);
}
