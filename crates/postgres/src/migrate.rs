//! Brings a database to the schema that this build was made for.
//!
//! Guarantees:
//! - Runners may start at the same time: one migrates, the others wait at most
//!   [`LOCK_TIMEOUT`] and then find nothing to do.
//! - Each migration is applied in a transaction of its own, together with the
//!   record that it was applied.
//! - A database whose history differs from the embedded migrations is refused
//!   before anything is changed; the error names the migration and both sides.
//!
//! The lock belongs to the session, so the URL must reach Postgres directly or
//! through a session pooler, not through a transaction pooler.

use std::time::Duration;

use refinery::{Migration, Runner, Target};
use tokio_postgres::error::SqlState;
use tracing::info;

use crate::maintenance::Maintenance;

pub use embedded::{Embedded, embedded, fingerprint};
pub use error::MigrateError;
pub use history::Applied;

mod embedded;
mod error;
mod history;
#[cfg(test)]
mod tests;

/// How long a runner waits for another runner, and a migration for a table that
/// is in use: a waiting `ALTER TABLE` would block every reader behind it.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// What one run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The version of the database now.
    pub version: i32,
    /// The migrations that this run applied, in order; empty when there was nothing to do.
    pub applied: Vec<Applied>,
}

/// Applies every embedded migration that the database at `url` lacks.
///
/// # Errors
///
/// [`MigrateError`] says what is wrong and with which migration. Migrations
/// before the one that failed stay applied.
pub async fn run(url: &str) -> Result<Report, MigrateError> {
    run_these(url, &embedded()).await
}

async fn run_these(url: &str, migrations: &[Embedded]) -> Result<Report, MigrateError> {
    let mut connection = Maintenance::connect(url).await?;
    let result = locked(&mut connection, migrations).await;
    // Closing the session releases the lock, also when the run failed.
    connection.close().await;
    result
}

async fn locked(
    connection: &mut Maintenance,
    migrations: &[Embedded],
) -> Result<Report, MigrateError> {
    let settings = format!(
        "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET lock_timeout = {}",
        LOCK_TIMEOUT.as_millis()
    );
    connection.client().batch_execute(&settings).await.map_err(MigrateError::Prepare)?;
    lock(connection).await?;

    let known = migrations.iter().map(Embedded::migration).collect::<Result<Vec<_>, _>>()?;
    let applied = history::read(connection.client()).await?;
    let pending = history::pending(&applied, &known)?;

    let mut report =
        Report { version: applied.last().map_or(0, |last| last.version), applied: Vec::new() };
    for migration in pending {
        apply(connection, &known, &migration).await?;
        info!(migration = %migration, "migration applied");
        report.version = migration.version();
        report.applied.push(Applied::from(&migration));
    }
    Ok(report)
}

async fn lock(connection: &Maintenance) -> Result<(), MigrateError> {
    // One key for every forebay database: advisory locks are per database.
    let locking = "SELECT pg_advisory_lock(hashtextextended('forebay migrations', 0))";
    match connection.client().batch_execute(locking).await {
        Ok(()) => Ok(()),
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Err(MigrateError::Locked { waited: LOCK_TIMEOUT })
        }
        Err(error) => Err(MigrateError::Prepare(error)),
    }
}

/// Applies one migration; running them one by one tells which of them failed.
async fn apply(
    connection: &mut Maintenance,
    known: &[Migration],
    migration: &Migration,
) -> Result<(), MigrateError> {
    Runner::new(known)
        .set_target(Target::Version(migration.version()))
        .run_async(connection.client_mut())
        .await
        .map(drop)
        .map_err(|source| MigrateError::Failed { migration: migration.to_string(), source })
}
