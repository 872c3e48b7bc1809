//! Creations, updates and deletions, and who sees them.

use forebay_proto::token::v1::{GetTokenRequest, LookupTokenRequest, Token};
use forebay_testkit as testkit;
use tonic::Code;

use crate::fixture::{
    Client, Service, UNUSED_MINT, assert_refused, create, delete, get, given, lookup, token, update,
};

async fn assert_no_mint(client: &mut Client) {
    let request = LookupTokenRequest { mint: UNUSED_MINT.to_owned() };
    let status = client.lookup_token(request).await.expect_err("there is none");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
}

/// Removed invalidation shows here: each read would go on giving what the read before it cached.
#[tokio::test]
async fn every_write_is_seen_by_the_next_read() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let mut versions = Vec::new();
    for _ in 0..3 {
        assert_no_mint(&mut client).await;

        let created = create(&mut client, token(UNUSED_MINT)).await;
        assert_eq!(given(created.clone()), token(UNUSED_MINT), "stored as it was given");
        assert_eq!(lookup(&mut client, UNUSED_MINT).await, created);
        assert_eq!(get(&mut client, &created.id).await, created);

        let renamed = Token { name: "Renamed".to_owned(), ..created.clone() };
        let updated = update(&mut client, renamed.clone(), &["name"]).await;
        assert_eq!(given(updated.clone()), given(renamed));
        assert_eq!(updated.create_time, created.create_time);
        assert_ne!(updated.etag, created.etag);
        assert_eq!(lookup(&mut client, UNUSED_MINT).await, updated);
        assert_eq!(get(&mut client, &created.id).await, updated);

        delete(&mut client, &created.id).await;
        assert_no_mint(&mut client).await;
        let by_id = GetTokenRequest { id: created.id };
        let status = client.get_token(by_id).await.expect_err("it was deleted");
        assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
        versions.extend([created.version, updated.version]);
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?} grow, also across deletions");
}

/// Two processes share what they know: without announcements the second one would go on serving
/// what it has cached for an hour.
#[tokio::test]
async fn a_write_is_seen_by_other_processes_soon() {
    let database = testkit::database().await;
    let redis = testkit::redis_config(&testkit::redis_url(), &testkit::redis_prefix());
    let postgres = testkit::postgres_config(database.url());
    let one = Service::start(&postgres, &redis).await;
    let other = Service::start(&postgres, &redis).await;
    let created = create(&mut one.client(), token(UNUSED_MINT)).await;
    assert_eq!(lookup(&mut other.client(), UNUSED_MINT).await, created);

    let renamed = Token { name: "Renamed".to_owned(), ..created };
    let updated = update(&mut one.client(), renamed, &["name"]).await;
    let began = tokio::time::Instant::now();
    while lookup(&mut other.client(), UNUSED_MINT).await != updated {
        assert!(began.elapsed().as_secs() < 2, "the update never reached the other process");
    }
}

#[tokio::test]
async fn facts_that_plain_sql_added_survive_an_update() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let created = create(&mut client, token(UNUSED_MINT)).await;
    let connection = database.connect().await;
    let add = r#"UPDATE tokens SET metadata = metadata || '{"audited": true}'"#;
    connection.client().execute(add, &[]).await.expect("metadata is open");
    let bare = Token { id: created.id, ..Token::default() };
    update(&mut client, bare, &["logo_uri", "tags", "extensions"]).await;
    let row = connection.client().query_one("SELECT metadata::text FROM tokens", &[]).await;
    assert_eq!(row.expect("one token").get::<_, String>(0), r#"{"audited": true}"#);
}
