//! Why a database was not migrated.

use std::time::Duration;

use crate::PgError;

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The database cannot be reached.
    #[error("connect to migrate")]
    Connect(#[from] PgError),
    /// The session could not be prepared.
    #[error("prepare the session for migrations")]
    Prepare(#[source] tokio_postgres::Error),
    /// Another runner holds the lock.
    #[error("another migration run held the lock for {waited:?}")]
    Locked {
        /// How long we waited for it.
        waited: Duration,
    },
    /// The table that records applied migrations cannot be read.
    #[error("read the history of migrations")]
    History(#[source] tokio_postgres::Error),
    /// A record in the history is not one that a migration run wrote.
    #[error("the history of migrations is damaged: {field} of version {version} cannot be read")]
    Damaged {
        /// Version of the record.
        version: i32,
        /// The column of `refinery_schema_history`.
        field: &'static str,
    },
    /// An applied migration is not the one of this build.
    #[error(
        "migration {version} was changed after it was applied: \
         expected {expected} (checksum {expected_checksum}), \
         the database has {actual} (checksum {actual_checksum})"
    )]
    Divergent {
        /// Version of the migration.
        version: i32,
        /// Its name in this build.
        expected: String,
        /// Its checksum in this build.
        expected_checksum: u64,
        /// Its name in the database.
        actual: String,
        /// Its checksum in the database.
        actual_checksum: u64,
    },
    /// The database has a migration that this build does not know: it is newer.
    #[error("the database has migration {actual}, this build ends at version {expected}")]
    Unknown {
        /// The newest version of this build.
        expected: i32,
        /// The migration in the database.
        actual: String,
    },
    /// A migration of this build was passed over.
    #[error("migration {expected} is not applied, but the database is at version {actual}")]
    Missing {
        /// The migration in this build.
        expected: String,
        /// The version of the database.
        actual: i32,
    },
    /// A migration file has a name that cannot be read.
    #[error("the migration name {name} is not of the form V1__what_it_does")]
    Name {
        /// The name.
        name: &'static str,
        /// What the migration library says.
        #[source]
        source: refinery::Error,
    },
    /// A migration failed and was rolled back.
    #[error("apply migration {migration}")]
    Failed {
        /// The migration.
        migration: String,
        /// What the server says.
        #[source]
        source: refinery::Error,
    },
}
