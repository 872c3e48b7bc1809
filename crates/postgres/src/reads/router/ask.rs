//! One read at one replica, tried once: whoever fails has somebody else to ask.

use std::io;
use std::panic::Location;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_postgres::Row;

use super::Lsn;
use super::replica::Statement;
use crate::lifecycle::checkout::Freshness;
use crate::pool::Shared;
use crate::reads::pipeline::Piped;
use crate::wire::failure::by;
use crate::{PgError, Sql};

static GUARD: Sql = Sql::new(
    "SELECT pg_last_wal_replay_lsn",
    "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()",
);

/// A read, and where the server was before it.
pub(super) struct Guarded {
    /// Up to where the server had replayed the log; `None` if it follows nobody.
    pub(super) replayed: Option<Lsn>,
    pub(super) rows: Vec<Row>,
}

/// Asks where the server is, and for the rows right behind it: both questions travel together, and
/// the server answers them in this order.
pub(super) async fn guarded(
    shared: &Arc<Shared>,
    caller: &'static Location<'static>,
    (sql, params): Statement<'_>,
) -> Result<Guarded, PgError> {
    let mut lease = shared.checkout(caller, None, Freshness::Recent, Instant::now()).await?;
    let both = by(shared.statement_deadline(), lease.run_behind(&GUARD, sql, params)).await;
    let (guard, rows): (Vec<Row>, Vec<Row>) = both.map_err(|failure| failure.error)?;
    let replayed = match guard.first() {
        Some(row) if row.try_get(0)? => row.try_get(1)?,
        Some(_) | None => None,
    };
    Ok(Guarded { replayed, rows })
}

/// Asks for the rows.
pub(super) async fn plain(
    shared: &Arc<Shared>,
    caller: &'static Location<'static>,
    (sql, params): Statement<'_>,
) -> Result<Vec<Row>, PgError> {
    if sql.is_pipelined() {
        match shared.pipeline().read(shared, sql, params).await {
            Piped::Answered(answer) => return answer,
            Piped::Unknown => {}
            Piped::Lost => {
                let error = io::Error::other("the connection that it shared with others was lost");
                return Err(PgError::ConnectionLost { source: Arc::new(error) });
            }
        }
    }
    let mut lease = shared.checkout(caller, None, Freshness::Recent, Instant::now()).await?;
    let rows = lease.run(shared.statement_deadline(), sql, params).await;
    let rows = rows.map_err(|failure| failure.error)?;
    if sql.is_pipelined() {
        shared.pipeline().learn(sql, lease.types_of(sql));
    }
    Ok(rows)
}
