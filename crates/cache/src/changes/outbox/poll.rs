//! Asking the outbox for changes.

use std::time::Duration;

use forebay_pooling::{Deadline, Priority};
use forebay_postgres::{PgError, PgPool, Row, Sql};
use tokio::time::Instant;

use super::base::{Base, NotASnapshot, Snapshot, Start, Xid};

/// Time one statement may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// The changes that the snapshot `$1` did not see, from the position `($2, $3)` on, at most `$4`
/// of them, and the state of the server beside each; one row without a change if there is none.
///
/// With `wal_level = minimal` an ordinary checkpoint cannot be told from that of a start, so the
/// time of the start stands in for it there.
///
/// A change was unseen if its transaction had not begun (its id is not below `xmax`) or had not
/// ended (its id is in the list of running ones). Both are ranges of the primary key, and what
/// the statement returns is committed, because it sees nothing else.
static UNSEEN: Sql = Sql::new(
    "SELECT cache_outbox",
    "SELECT server.snapshot, server.is_standby, server.history, server.taken_at, \
            server.checkpoint, server.is_quiet, server.next_xid, \
            change.xid::text, change.position, change.entity, change.entity_id::text, \
            change.entity_key, change.version, change.operation \
     FROM (SELECT pg_current_snapshot()::text AS snapshot, \
                  pg_is_in_recovery() AS is_standby, \
                  concat_ws('/', \
                      (SELECT system_identifier FROM pg_control_system()), \
                      CASE WHEN NOT pg_is_in_recovery() \
                          THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END, \
                      (SELECT oid FROM pg_database WHERE datname = current_database()) \
                  ) AS history, \
                  extract(epoch FROM statement_timestamp())::bigint AS taken_at, \
                  CASE WHEN current_setting('wal_level') = 'minimal' \
                      THEN 'start:' || extract(epoch FROM pg_postmaster_start_time()) \
                      ELSE control.checkpoint_lsn::text END AS checkpoint, \
                  control.redo_lsn = control.checkpoint_lsn AS is_quiet, \
                  control.next_xid AS next_xid \
           FROM pg_control_checkpoint() control) server \
     LEFT JOIN ( \
         SELECT xid, position, entity, entity_id, entity_key, version, operation FROM ( \
             SELECT xid, position, entity, entity_id, entity_key, version, operation \
             FROM cache_outbox \
             WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) \
                 AND (xid, position) > ($2::text::xid8, $3) \
             UNION ALL \
             SELECT xid, position, entity, entity_id, entity_key, version, operation \
             FROM pg_snapshot_xip($1::text::pg_snapshot) AS running (xid) \
             JOIN cache_outbox USING (xid) \
             WHERE (xid, position) > ($2::text::xid8, $3) \
         ) unseen ORDER BY xid, position LIMIT $4 \
     ) change ON true \
     ORDER BY change.xid, change.position",
)
// The best plan depends on where the snapshot ends, and a plan for any would read the whole table.
.planned_each_time();

/// Why the outbox did not say what has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboxError {
    /// The statement failed.
    #[error("ask the outbox for changes")]
    Query(#[from] PgError),
    /// The server follows another one, and may be behind it.
    #[error("the server that was asked for changes is a standby")]
    Standby,
    /// The server said something about itself that cannot be read.
    #[error("read where the outbox stands")]
    Unreadable(#[from] NotASnapshot),
}

/// Where the last page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Cursor {
    xid: Xid,
    position: i64,
}

/// One committed change of a row, or of a whole table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The table, as its trigger names it.
    pub(crate) source: String,
    /// Both keys of the row; absent if the table was truncated.
    pub(crate) row: Option<(String, String)>,
    pub(crate) version: i64,
}

/// Some changes.
#[derive(Debug)]
pub(crate) struct Page {
    /// What the statement saw, and where to go on later.
    pub(crate) base: Base,
    pub(crate) changes: Vec<Change>,
    /// Where to go on now, if there may be more.
    pub(crate) next: Option<Cursor>,
    /// When the statement was sent.
    pub(crate) sent_at: Instant,
}

/// The outbox, on the server that takes writes.
#[derive(Debug)]
pub(crate) struct Outbox {
    postgres: PgPool,
    page_max: i64,
}

impl Outbox {
    /// Pages have at most `page_max` changes.
    pub(crate) fn new(postgres: PgPool, page_max: i64) -> Self {
        Self { postgres, page_max }
    }

    pub(super) fn postgres(&self) -> &PgPool {
        &self.postgres
    }

    /// The changes after `cursor` that `seen` did not see; without `seen` none, only the base.
    pub(crate) async fn unseen(
        &self,
        seen: Option<&Snapshot>,
        cursor: Cursor,
    ) -> Result<Page, OutboxError> {
        let snapshot = seen.map(Snapshot::as_str);
        let xid = cursor.xid.to_string();
        let params: [&(dyn forebay_postgres::ToSql + Sync); 4] =
            [&snapshot, &xid, &cursor.position, &self.page_max];
        // On the primary: what a standby shows may be old, whatever position it claims.
        let rows = self.postgres.query(&UNSEEN, &params);
        // Ahead of all other callers: an overload must not make the caches blind.
        let rows = Priority::Admin.scope(rows);
        let sent_at = Instant::now();
        let rows = Deadline::after(TIMEOUT).scope(rows).await?;
        let first = rows.first().ok_or(NotASnapshot)?;
        if first.try_get::<_, bool>(1).map_err(PgError::from)? {
            return Err(OutboxError::Standby);
        }
        let base = base(first)?;
        let mut changes = Vec::with_capacity(rows.len());
        let mut last = None;
        for row in &rows {
            if let Some((at, change)) = change(row)? {
                changes.push(change);
                last = Some(at);
            }
        }
        let is_full = i64::try_from(changes.len()).unwrap_or(i64::MAX) >= self.page_max;
        Ok(Page { base, changes, next: last.filter(|_| is_full), sent_at })
    }
}

fn base(row: &Row) -> Result<Base, OutboxError> {
    let snapshot: &str = row.try_get(0).map_err(PgError::from)?;
    let next_xid: &str = row.try_get(6).map_err(PgError::from)?;
    Ok(Base {
        snapshot: snapshot.parse()?,
        history: row.try_get(2).map_err(PgError::from)?,
        taken_at: row.try_get(3).map_err(PgError::from)?,
        start: Start {
            checkpoint: row.try_get(4).map_err(PgError::from)?,
            is_quiet: row.try_get(5).map_err(PgError::from)?,
            next_xid: epoch_and_id(next_xid).ok_or(NotASnapshot)?,
        },
    })
}

/// A transaction id as the control file has it: `epoch:id`.
fn epoch_and_id(text: &str) -> Option<Xid> {
    let (epoch, id) = text.split_once(':')?;
    let (epoch, id): (u32, u32) = (epoch.parse().ok()?, id.parse().ok()?);
    Some(u64::from(epoch) << 32 | u64::from(id))
}

fn change(row: &Row) -> Result<Option<(Cursor, Change)>, OutboxError> {
    let Some(xid) = row.try_get::<_, Option<&str>>(7).map_err(PgError::from)? else {
        return Ok(None);
    };
    let xid = xid.parse().map_err(|_not_a_number| NotASnapshot)?;
    let position = row.try_get(8).map_err(PgError::from)?;
    let id: Option<String> = row.try_get(10).map_err(PgError::from)?;
    let key: Option<String> = row.try_get(11).map_err(PgError::from)?;
    let change = Change {
        source: row.try_get(9).map_err(PgError::from)?,
        row: id.zip(key),
        version: row.try_get(12).map_err(PgError::from)?,
    };
    Ok(Some((Cursor { xid, position }, change)))
}

#[cfg(test)]
mod tests;
