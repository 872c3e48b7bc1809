//! Commits whose answer or process goes away.

use std::time::Duration;

use forebay_postgres::Row;
use forebay_proto::pool::v1::{Pool, UpdatePoolRequest};
use forebay_testkit::{self as testkit, TestDatabase};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::fixture::{SOL_USDC, System, assert_refused, lookup, update, update_request};
use crate::writes::REQUEST_ID;

/// Long enough for a commit that nobody holds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Who repeats a write of unknown outcome may write twice, unless a request id prevents it: only
/// then is a caller told to.
#[tokio::test]
async fn a_lost_answer_is_no_refusal_and_invites_only_harmless_repetitions() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let id = lookup(&mut client, SOL_USDC).await.id;
    let renamed = Pool { id, name: "Renamed".to_owned(), ..Pool::default() };
    let commits = HeldCommits::new(&database).await;
    let mut last = UpdatePoolRequest::default();
    // With an id the service itself asks again, and gives up after five tries.
    for (request_id, is_repeatable, tries) in [("", false, 1), (REQUEST_ID, true, 5)] {
        let request_id = request_id.to_owned();
        last = UpdatePoolRequest { request_id, ..update_request(renamed.clone(), &["name"]) };
        let (mut caller, request) = (system.client(), last.clone());
        let call = tokio::spawn(async move { caller.update_pool(request).await });
        for _ in 0..tries {
            commits.wait_for_one().await;
            commits.cut_off().await;
        }
        let status = call.await.expect("the task ends").expect_err("no answer");
        assert_refused(&status, Code::Unavailable, "OUTCOME_UNKNOWN");
        assert!(status.message().contains("may have happened"), "{status:?}");
        assert_eq!(status.get_details_retry_info().is_some(), is_repeatable, "{status:?}");
    }
    commits.release().await;
    let updated = client.update_pool(last).await.expect("a repetition").into_inner();
    assert_eq!(updated.pool.expect("a reply has its pool").name, "Renamed");
}

/// Fails when a request with an id is not done again after its commit got no answer.
#[tokio::test]
async fn a_lost_answer_is_asked_for_again_under_the_id_of_the_request() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let id = lookup(&mut client, SOL_USDC).await.id;
    let renamed = Pool { id, name: "Renamed".to_owned(), ..Pool::default() };
    let request_id = REQUEST_ID.to_owned();
    let request = UpdatePoolRequest { request_id, ..update_request(renamed, &["name"]) };
    let commits = HeldCommits::new(&database).await;
    let (mut caller, first) = (system.client(), request.clone());
    let call = tokio::spawn(async move { caller.update_pool(first).await });
    commits.wait_for_one().await;
    commits.cut_off().await;
    commits.wait_for_one().await;
    commits.release().await;
    let updated = call.await.expect("the task ends").expect("the second try").into_inner();
    assert_eq!(updated.pool.as_ref().expect("a reply has its pool").name, "Renamed");
    let repeated = client.update_pool(request).await.expect("a repetition").into_inner();
    assert_eq!(repeated, updated, "it was written once");
}

/// A process that ended now would take the invalidation along.
#[tokio::test]
async fn a_drain_waits_for_the_commits_that_began() {
    let database = testkit::seeded_database().await;
    let system = System::on(&database).await;
    let mut client = system.client();
    let id = lookup(&mut client, SOL_USDC).await.id;
    assert!(system.drain(DRAIN_TIMEOUT).await, "nothing to wait for");
    let commits = HeldCommits::new(&database).await;

    let renamed = Pool { id, name: "Renamed".to_owned(), ..Pool::default() };
    let mut caller = system.client();
    let call = tokio::spawn(async move { update(&mut caller, renamed, &["name"]).await });
    commits.wait_for_one().await;
    call.abort();
    assert!(!system.drain(Duration::ZERO).await, "the commit is held");
    let (drained, ()) = tokio::join!(system.drain(DRAIN_TIMEOUT), commits.release());
    assert!(drained, "the commit was released");
    assert_eq!(lookup(&mut client, SOL_USDC).await.name, "Renamed");
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
            CREATE CONSTRAINT TRIGGER wait_in_commit AFTER UPDATE ON pools
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
            SELECT pg_advisory_lock(7);";
        connection.client().batch_execute(hold).await.expect("the trigger is made");
        Self { connection }
    }

    async fn wait_for_one(&self) {
        while self.of_waiting("pid").await.is_empty() {}
    }

    /// Ends the connection that waits, so that its commit gets no answer.
    async fn cut_off(&self) {
        let waiting = self.of_waiting("pid").await;
        assert_eq!(waiting.len(), 1);
        let pid: i32 = waiting[0].get(0);
        let terminate = "SELECT pg_terminate_backend($1)";
        self.connection.client().execute(terminate, &[&pid]).await.expect("it can be ended");
        // Its caller may know, and even be back, before the server has cleaned up.
        while self.of_waiting("pid").await.iter().any(|row| row.get::<_, i32>(0) == pid) {}
    }

    /// What `expression` says of each waiting connection.
    async fn of_waiting(&self, expression: &str) -> Vec<Row> {
        let waiting = format!(
            "SELECT {expression} FROM pg_locks
            WHERE locktype = 'advisory' AND objid = 7 AND NOT granted AND database =
                (SELECT oid FROM pg_database WHERE datname = current_database())"
        );
        self.connection.client().query(&waiting, &[]).await.expect("locks can be read")
    }

    async fn release(&self) {
        let release = "SELECT pg_advisory_unlock(7)";
        self.connection.client().execute(release, &[]).await.expect("the lock is ours");
    }
}
