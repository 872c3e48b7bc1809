//! What was applied to a database, held against the migrations of this build.

use refinery::Migration;
use tokio_postgres::Client;

use super::MigrateError;

/// One applied migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its version.
    pub version: i32,
    /// Its name, without the version.
    pub name: String,
    /// Checksum of its name, version and statements.
    pub checksum: u64,
}

impl From<&Migration> for Applied {
    fn from(migration: &Migration) -> Self {
        Self {
            version: migration.version(),
            name: migration.name().to_owned(),
            checksum: migration.checksum(),
        }
    }
}

/// Reads the history in the order of versions; a new database has none.
pub(super) async fn read(client: &Client) -> Result<Vec<Applied>, MigrateError> {
    let table = client
        .query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[])
        .await
        .map_err(MigrateError::History)?;
    if !table.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    // The migration library panics on a record that it cannot read, so records
    // are checked here first.
    let rows = client
        .query(
            "SELECT version, coalesce(name, ''), coalesce(checksum, ''), \
             coalesce(applied_on ~ '^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d', false) \
             FROM refinery_schema_history ORDER BY version",
            &[],
        )
        .await
        .map_err(MigrateError::History)?;
    rows.iter()
        .map(|row| {
            let version = row.get(0);
            match row.get::<_, &str>(2).parse() {
                Ok(checksum) if row.get(3) => Ok(Applied { version, name: row.get(1), checksum }),
                Ok(_) => Err(MigrateError::Damaged { version, field: "applied_on" }),
                Err(_not_a_number) => Err(MigrateError::Damaged { version, field: "checksum" }),
            }
        })
        .collect()
}

/// The migrations to apply, or how the history differs from them.
pub(super) fn pending(
    applied: &[Applied],
    known: &[Migration],
) -> Result<Vec<Migration>, MigrateError> {
    let newest = known.iter().map(Migration::version).max().unwrap_or(0);
    for record in applied {
        let Some(migration) = known.iter().find(|known| known.version() == record.version) else {
            let actual = display(record.version, &record.name);
            return Err(MigrateError::Unknown { expected: newest, actual });
        };
        if *record != Applied::from(migration) {
            return Err(MigrateError::Divergent {
                version: record.version,
                expected: display(migration.version(), migration.name()),
                expected_checksum: migration.checksum(),
                actual: display(record.version, &record.name),
                actual_checksum: record.checksum,
            });
        }
    }
    let current = applied.last().map_or(0, |last| last.version);
    let mut pending: Vec<Migration> = known
        .iter()
        .filter(|known| !applied.iter().any(|record| record.version == known.version()))
        .cloned()
        .collect();
    pending.sort();
    match pending.first() {
        Some(first) if first.version() < current => Err(MigrateError::Missing {
            expected: display(first.version(), first.name()),
            actual: current,
        }),
        _ => Ok(pending),
    }
}

fn display(version: i32, name: &str) -> String {
    format!("V{version}__{name}")
}
