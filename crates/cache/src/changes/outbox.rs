//! The outbox of committed changes, `cache_outbox` in Postgres.
//!
//! Triggers fill it. It is kept for as long as somebody may have to replay it.
//!
//! A reader asks for the changes that an earlier snapshot did not see. So a transaction that is
//! still open holds nobody up: it is in the list of running ones of every snapshot until it ends,
//! and is found then. (The comment beside the table, "take the rows of finished transactions
//! only", tells of an older reader, which any long transaction of the server stopped.)

use std::time::Duration;

use forebay_postgres::{Sql, Sweep};

/// How long a change is kept. Its tombstones also stop an insert that was overtaken by a deletion
/// of its key, so this must be longer than any transaction.
const RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The changes that nobody replays any more, for the [`Sweeper`](forebay_postgres::Sweeper) of a
/// service.
pub const REPLAYED: Sweep = Sweep {
    what: "announced changes",
    retention: RETENTION,
    delete: Sql::new(
        "DELETE cache_outbox",
        "DELETE FROM cache_outbox WHERE (xid, position) IN ( \
             SELECT xid, position FROM cache_outbox \
             WHERE created_at < now() - make_interval(secs => $1) \
             LIMIT $2 FOR UPDATE SKIP LOCKED)",
    ),
};

/// Changes are looked for over this much time, by the clock of the database; what may be missing
/// of a longer time is not known. Far less than [`RETENTION`], so that a step of that clock does
/// not matter.
const REACH_MAX: Duration = Duration::from_secs(6 * 3600);

mod base;
mod history;
mod look;
mod poll;

pub(crate) use base::{Base, Snapshot};
#[cfg(test)]
pub(crate) use history::SeenChange;
pub(crate) use history::{History, history};
pub(crate) use look::Look;
pub(crate) use poll::{Change, Cursor, Outbox, OutboxError};

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails when nobody deletes what was replayed: the table would grow with every write.
    #[tokio::test]
    async fn old_changes_go_and_young_ones_stay() {
        const FILL: Sql = Sql::new(
            "INSERT cache_outbox",
            "INSERT INTO cache_outbox (entity, entity_id, entity_key, version, operation, created_at) \
             SELECT 'token', gen_random_uuid(), i::text, i, 'upsert', now() - make_interval(hours => i % 2 * 25) \
             FROM generate_series(1, 3000) i",
        );
        const COUNT: Sql = Sql::new("SELECT cache_outbox", "SELECT count(*) FROM cache_outbox");
        let database = forebay_testkit::database().await;
        let postgres = database.pool();
        postgres.execute(&FILL, &[]).await.expect("changes to sweep");
        for expected in [1000, 500, 0] {
            assert_eq!(REPLAYED.step(&postgres).await.expect("a step"), expected);
        }
        let left: i64 = postgres.query_one(&COUNT, &[]).await.expect("a count").get(0);
        assert_eq!(left, 1500);
    }
}
