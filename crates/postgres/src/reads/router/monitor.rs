//! The task that looks at every replica.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use forebay_pooling::{Deadline, Priority};
use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior};

use super::replica::Replica;
use super::standing::{Behind, Seen};
use super::{Lsn, ReplicaState, Router, leader};
use crate::pool::Shared;
use crate::{PgError, PgPool, Sql};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Writes may meet a read-only server by the thousand; it is looked at no more often than this.
const SUSPICION_PAUSE: Duration = Duration::from_millis(20);
/// How long a server may take to say where it is.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

static OF_PRIMARY: Sql = Sql::new(
    "SELECT pg_current_wal_lsn",
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_lsn() END, \
                clock_timestamp(), current_setting('transaction_read_only') = 'on'",
);
static OF_REPLICA: Sql = Sql::new(
    "SELECT pg_last_wal_replay_lsn",
    "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), pg_last_xact_replay_timestamp()",
);

/// Where the primary was.
#[derive(Debug, Clone, Copy)]
struct Primary {
    written: Lsn,
    /// By its own clock.
    now: SystemTime,
    asked_at: Instant,
}

/// What the primary is found to be.
#[derive(Debug, Clone, Copy)]
enum Role {
    /// A primary.
    Writable(Primary),
    /// A standby, or a server that was made read-only.
    ReadOnly,
}

/// Starts the task. It ends when nobody else holds the connection pool.
pub(super) fn start(primary: &Arc<Shared>) {
    let Some(suspected) = primary.router().map(Router::suspected) else {
        return;
    };
    let weak = Arc::downgrade(primary);
    primary.runtime().spawn(async move {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = suspected.notified() => {}
            }
            let Some(primary) = Weak::upgrade(&weak) else {
                return;
            };
            let Some(router) = primary.router() else {
                return;
            };
            Priority::Admin.scope(look_around(&PgPool::of(&primary), router)).await;
            drop(primary);
            tokio::time::sleep(SUSPICION_PAUSE).await;
        }
    });
}

async fn look_around(primary: &PgPool, router: &Router) {
    // Before the replicas: what they have replayed then includes what is written now.
    let primary = match locate(primary).await {
        Ok(Role::Writable(primary)) => Some(primary),
        Ok(Role::ReadOnly) => {
            leader::find(primary, router).await;
            None
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "the postgres primary does not say where it is");
            None
        }
    };
    join_all(router.replicas.iter().map(|replica| look_at(replica, primary))).await;
}

async fn locate(primary: &PgPool) -> Result<Role, PgError> {
    let asked_at = Instant::now();
    let row = Deadline::after(LOOK_TIMEOUT).scope(Box::pin(primary.query_one(&OF_PRIMARY, &[])));
    let row = row.await?;
    let (written, now): (Option<Lsn>, SystemTime) = (row.try_get(0)?, row.try_get(1)?);
    let is_read_only: bool = row.try_get(2)?;
    Ok(match written {
        Some(written) if !is_read_only => Role::Writable(Primary { written, now, asked_at }),
        Some(_) | None => Role::ReadOnly,
    })
}

async fn look_at(replica: &Replica, primary: Option<Primary>) {
    match find(replica, primary).await {
        Ok(Some(seen)) => replica.change(|standing| standing.follows(seen, Instant::now())),
        Ok(None) => replica.change(|standing| standing.leave(ReplicaState::Promoted)),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "a postgres replica does not say where it is");
            replica.change(|standing| standing.leave(ReplicaState::Ejected));
        }
    }
}

/// Where the replica is; `None` if it follows nobody.
async fn find(replica: &Replica, primary: Option<Primary>) -> Result<Option<Seen>, PgError> {
    let pool = replica.pool();
    let row = Deadline::after(LOOK_TIMEOUT).scope(Box::pin(pool.query_one(&OF_REPLICA, &[])));
    let row = row.await?;
    let (is_following, replayed): (bool, Option<Lsn>) = (row.try_get(0)?, row.try_get(1)?);
    if !is_following {
        return Ok(None);
    }
    let replayed = replayed.unwrap_or_default();
    let newest: Option<SystemTime> = row.try_get(2)?;
    let behind = primary.map(|primary| {
        let bytes = primary.written.bytes_since(replayed);
        let age = |newest| primary.now.duration_since(newest).unwrap_or_default();
        let time = if bytes == 0 { Some(Duration::ZERO) } else { newest.map(age) };
        Behind { bytes, time, asked_at: primary.asked_at }
    });
    Ok(Some(Seen { replayed, behind }))
}
