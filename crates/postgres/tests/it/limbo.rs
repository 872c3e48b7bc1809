//! Connections whose caller went away, until the server is done with them.

use forebay_config::Secret;
use forebay_pooling::CloseReason;
use forebay_postgres::Sql;
use tokio::time::Instant;

use crate::support::{Fixture, ms};

/// Goes on for half a second after it was cancelled. Postgres signals twice, the process and its
/// group, and on a busy machine the second signal may arrive after the first was dealt with: at any
/// moment of the inner handler, also before that has begun to sleep.
static STUBBORN: Sql = Sql::new(
    "DO pg_sleep",
    "DO $$ BEGIN \
       BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.5); END; \
     EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.5); END $$",
);

/// Fails when the connection is closed, or its permit given back, while the server is still at
/// work: then the next statement runs beside the one that was left behind.
#[tokio::test]
async fn a_place_is_taken_for_as_long_as_the_server_is_at_work() {
    // Behind a transaction pooler a connection that was cancelled is closed, otherwise used again.
    for (parameters, poisoned) in [("", 0), ("?pgbouncer=true", 1)] {
        let it = Fixture::with(|config| {
            config.connections_max = 1;
            config.url = Secret::new(format!("{}{parameters}", config.url.expose()));
        })
        .await;
        let before = it.pid().await;
        tokio::select! {
            outcome = it.postgres.execute(&STUBBORN, &[]) => panic!("{outcome:?}"),
            // From here on it is under way, and its caller goes away.
            () = it.wait_for_sleep() => {}
        }
        let started = Instant::now();
        let next = tokio::spawn({
            let postgres = it.postgres.clone();
            async move { postgres.query_one(&crate::support::PID, &[]).await }
        });
        let (mut samples, mut most_active) = (0, 0);
        while !next.is_finished() {
            most_active = it.backends("active").await.max(most_active);
            samples += 1;
        }
        let after: i32 = next.await.expect("the task ends").expect("an answer").get(0);
        let waited = started.elapsed();
        assert!(waited >= ms(400), "the next one waited for {waited:?} only, {samples} samples");
        assert!(most_active <= 1, "{most_active} statements at once");
        assert_eq!(after != before, poisoned == 1);
        assert_eq!(it.postgres.stats().closed.of(CloseReason::Poisoned), poisoned);
    }
}
