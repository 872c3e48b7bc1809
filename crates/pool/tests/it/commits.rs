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
    for (request_id, is_repeatable) in [("", false), (REQUEST_ID, true)] {
        let request_id = request_id.to_owned();
        last = UpdatePoolRequest { request_id, ..update_request(renamed.clone(), &["name"]) };
        let (mut caller, request) = (system.client(), last.clone());
        let call = tokio::spawn(async move { caller.update_pool(request).await });
        commits.wait_for_one().await;
        commits.cut_off().await;
        let status = call.await.expect("the task ends").expect_err("no answer");
        assert_refused(&status, Code::Unavailable, "OUTCOME_UNKNOWN");
        assert!(status.message().contains("may have happened"), "{status:?}");
        assert_eq!(status.get_details_retry_info().is_some(), is_repeatable, "{status:?}");
    }
    commits.release().await;
    let updated = client.update_pool(last).await.expect("a repetition").into_inner();
    assert_eq!(updated.pool.expect("a reply has its pool").name, "Renamed");
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
        assert_eq!(self.of_waiting("pg_terminate_backend(pid)").await.len(), 1);
        // Its caller may know before the server has cleaned up.
        while !self.of_waiting("pid").await.is_empty() {}
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
