//! How far versions were given out, and who holds some that he may still commit.

use std::collections::HashSet;

use forebay_pooling::{Deadline, Priority};
use forebay_postgres::{PgError, Sql};

use super::poll::{Outbox, OutboxError, TIMEOUT};

/// The newest version that was given out, and then the open transactions that have any.
///
/// Whoever draws from a sequence takes a lock on it first and keeps it until his transaction has
/// ended and everybody can see what it did. So the lock, which anybody may look up, names all those
/// whose versions are given out and not visible. The order matters, and `LATERAL` makes it: with the
/// locks first, a transaction could begin after them and draw a version that is counted.
static LOOK: Sql = Sql::new(
    "SELECT row_version",
    "WITH given_out AS MATERIALIZED ( \
         SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS version FROM row_version) \
     SELECT given_out.version, pg_is_in_recovery(), open.transactions, open.has_prepared \
     FROM given_out CROSS JOIN LATERAL ( \
         SELECT coalesce(array_agg(virtualtransaction) FILTER (WHERE pid IS NOT NULL), '{}') \
                    AS transactions, \
                coalesce(bool_or(pid IS NULL), false) AS has_prepared \
         FROM pg_locks \
         WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted \
             AND relation = 'row_version'::regclass \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND given_out.version IS NOT NULL) open",
);

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    /// The newest version that was given out.
    pub(crate) newest: i64,
    /// The open transactions that may have versions up to there, by names that are never used twice.
    pub(crate) open: HashSet<String>,
    /// There are also some that were prepared. Those have changed their names.
    pub(crate) has_prepared: bool,
}

impl Outbox {
    /// Looks how far versions were given out.
    pub(crate) async fn look(&self) -> Result<Look, OutboxError> {
        let row = Priority::Admin.scope(self.postgres().query_one(&LOOK, &[]));
        let row = Deadline::after(TIMEOUT).scope(row).await?;
        if row.try_get::<_, bool>(1).map_err(PgError::from)? {
            return Err(OutboxError::Standby);
        }
        let open: Vec<String> = row.try_get(2).map_err(PgError::from)?;
        Ok(Look {
            newest: row.try_get(0).map_err(PgError::from)?,
            open: open.into_iter().collect(),
            has_prepared: row.try_get(3).map_err(PgError::from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Who is seen by a look, on a real server.

    use super::*;

    /// Fails when a transaction that has drawn a version is not seen until it has ended, in whatever
    /// way it drew it.
    #[tokio::test]
    async fn who_has_versions_is_seen_until_he_has_ended() {
        const DRAW: Sql = Sql::new("SELECT row_version", "SELECT nextval('row_version')");
        const INSERT: Sql = Sql::new(
            "INSERT tokens",
            "INSERT INTO tokens (id, mint, symbol, name, decimals) \
             VALUES (gen_random_uuid(), repeat('1', 40), 'A', 'a', 6) RETURNING version",
        );
        const DELETE: Sql = Sql::new("DELETE tokens", "DELETE FROM tokens");
        let database = forebay_testkit::database().await;
        let postgres = database.pool();
        let outbox = Outbox::new(postgres.clone(), 10);
        let look = outbox.look().await.expect("a look");
        assert_eq!((look.newest, look.open.len(), look.has_prepared), (0, 0, false));
        for (sql, newest) in [(&INSERT, 1), (&DELETE, 2), (&DRAW, 3)] {
            let mut open = postgres.begin().await.expect("a transaction");
            open.execute(sql, &[]).await.expect("a version is drawn");
            let while_open = outbox.look().await.expect("a look");
            assert_eq!((while_open.newest, while_open.open.len()), (newest, 1));
            // Also what is undone was given out.
            if newest == 3 {
                open.rollback().await.expect("undone");
            } else {
                open.commit().await.expect("committed");
            }
            let after = outbox.look().await.expect("a look");
            assert_eq!((after.newest, after.open.len()), (newest, 0));
        }
    }
}
