//! What happened to one key of late.

use forebay_postgres::{PgError, PgPool, Sql};

/// How far back the history goes, in seconds by the clock of the database. A change whose
/// transaction began before is not found.
const REACH_SECONDS: f64 = 600.0;

/// Changes of one key. There is no index for it: the block ranges of `created_at` leave the last
/// minutes, and whoever asks must not ask often.
const HISTORY: Sql = Sql::new(
    "SELECT cache_outbox",
    "WITH change AS MATERIALIZED ( \
         SELECT version, operation = 'delete' AS is_deletion, \
                pg_visible_in_snapshot(xid, $3::text::pg_snapshot) AS is_seen \
         FROM cache_outbox \
         WHERE created_at >= statement_timestamp() - make_interval(secs => $4) \
             AND entity = $1 AND (entity_key = $2 OR entity_id::text = $2)) \
     SELECT (SELECT version FROM change WHERE is_seen ORDER BY version DESC LIMIT 1), \
            (SELECT is_deletion FROM change WHERE is_seen ORDER BY version DESC LIMIT 1), \
            (SELECT max(version) FROM change WHERE is_deletion)",
);

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct History {
    /// The newest change that a snapshot saw.
    pub(crate) newest_seen: Option<SeenChange>,
    /// The version of the newest deletion, seen or not.
    pub(crate) newest_deletion: Option<i64>,
}

/// A change that a snapshot saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenChange {
    pub(crate) version: i64,
    pub(crate) is_deletion: bool,
}

/// What happened to the key of a table, and what of it `snapshot` saw.
pub(crate) async fn history(
    postgres: &PgPool,
    source: &str,
    key_text: &str,
    snapshot: &str,
) -> Result<History, PgError> {
    let row =
        postgres.query_one(&HISTORY, &[&source, &key_text, &snapshot, &REACH_SECONDS]).await?;
    let version: Option<i64> = row.try_get(0)?;
    let is_deletion: Option<bool> = row.try_get(1)?;
    Ok(History {
        newest_seen: version
            .zip(is_deletion)
            .map(|(version, is_deletion)| SeenChange { version, is_deletion }),
        newest_deletion: row.try_get(2)?,
    })
}
