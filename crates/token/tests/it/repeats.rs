//! Requests that come twice, and callers who do not wait for the answer.

use std::time::Duration;

use forebay_proto::token::v1::{CreateTokenRequest, DeleteTokenRequest, Token, UpdateTokenRequest};
use forebay_testkit::{self as testkit, TestDatabase};
use futures_util::future::join_all;
use tokio::time::Instant;
use tonic::Code;

use crate::fixture::{
    Service, UNUSED_MINT, assert_bad_fields, assert_refused, create, create_request,
    delete_request, lookup, token, update, update_request,
};

/// A request id of a caller.
const REQUEST_ID: &str = "0198c0de-0000-4000-8000-000000000002";

/// Without the record of requests one of these would be created and the others be refused.
#[tokio::test]
async fn ten_creations_with_one_request_id_are_one() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let create =
        |token| CreateTokenRequest { request_id: REQUEST_ID.to_owned(), ..create_request(token) };
    let calls = (0..10).map(|_| {
        let (mut client, request) = (service.client(), create(token(UNUSED_MINT)));
        async move { client.create_token(request).await.expect("the same reply").into_inner() }
    });
    let mut replies = join_all(calls).await;
    replies.dedup();
    assert_eq!(replies.len(), 1, "one creation, one reply");

    let other = Token { decimals: 1, ..token(UNUSED_MINT) };
    let status = service.client().create_token(create(other)).await.expect_err("another request");
    assert_bad_fields(&status, &["request_id"]);
}

#[tokio::test]
async fn a_repeated_update_or_deletion_gets_its_first_reply() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let id = create(&mut client, token(UNUSED_MINT)).await.id;

    let renamed = Token { id: id.clone(), name: "Renamed".to_owned(), ..Token::default() };
    let request =
        UpdateTokenRequest { request_id: REQUEST_ID.to_owned(), ..update_request(renamed) };
    let first = client.update_token(request.clone()).await.expect("an update").into_inner();
    let again = client.update_token(request).await.expect("a repetition").into_inner();
    assert_eq!(first, again);

    let request =
        DeleteTokenRequest { request_id: REQUEST_ID.to_owned(), ..delete_request(&id, "") };
    client.delete_token(request.clone()).await.expect("a deletion");
    client.delete_token(request).await.expect("a repetition");
    let status = client.delete_token(delete_request(&id, "")).await.expect_err("it is gone");
    assert_refused(&status, Code::NotFound, "TOKEN_NOT_FOUND");
}

/// A commit that began must end, and the caches must hear of it, though its caller has gone:
/// were it part of the call, the update would be rolled back here.
#[tokio::test]
async fn a_caller_who_goes_away_during_the_commit_takes_nothing_along() {
    let database = testkit::database().await;
    let service = Service::on(&database).await;
    let mut client = service.client();
    let created = create(&mut client, token(UNUSED_MINT)).await;
    assert_eq!(lookup(&mut client, UNUSED_MINT).await, created);
    let commits = HeldCommits::new(&database).await;

    let renamed = Token { id: created.id.clone(), name: "Renamed".to_owned(), ..Token::default() };
    let mut caller = service.client();
    let call = tokio::spawn(async move { update(&mut caller, renamed, &["name"]).await });
    commits.wait_for_one().await;
    call.abort();
    assert!(call.await.expect_err("it was aborted").is_cancelled());
    commits.release().await;

    let began = Instant::now();
    while lookup(&mut client, UNUSED_MINT).await.name != "Renamed" {
        assert!(began.elapsed() < Duration::from_secs(10), "the update never became visible");
    }
}

/// Commits of updates that wait until they are released.
struct HeldCommits {
    connection: forebay_postgres::maintenance::Maintenance,
}

impl HeldCommits {
    async fn new(database: &TestDatabase) -> Self {
        let connection = database.connect().await;
        // A deferred trigger runs inside COMMIT, and this one waits there for a lock of ours.
        let hold = "
            CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER wait_in_commit AFTER UPDATE ON tokens
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
            SELECT pg_advisory_lock(7);";
        connection.client().batch_execute(hold).await.expect("the trigger is made");
        Self { connection }
    }

    async fn wait_for_one(&self) {
        let waiting = "SELECT EXISTS (SELECT FROM pg_locks
            WHERE locktype = 'advisory' AND objid = 7 AND NOT granted AND database =
                (SELECT oid FROM pg_database WHERE datname = current_database()))";
        loop {
            let row = self.connection.client().query_one(waiting, &[]).await;
            if row.expect("locks can be read").get(0) {
                return;
            }
        }
    }

    async fn release(&self) {
        let release = "SELECT pg_advisory_unlock(7)";
        self.connection.client().execute(release, &[]).await.expect("the lock is ours");
    }
}
