//! The migrations, compiled in.

use std::hash::{DefaultHasher, Hash, Hasher};

use refinery::Migration;

use super::MigrateError;

/// One migration of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embedded {
    /// File name without its extension, such as `V1__initial_schema`.
    pub name: &'static str,
    /// Its statements.
    pub sql: &'static str,
}

/// Every migration in the order of versions.
pub fn embedded() -> Vec<Embedded> {
    MIGRATIONS.iter().map(|&(name, sql)| Embedded { name, sql }).collect()
}

/// A number that differs when any migration differs; it names cached copies of
/// a migrated database, so it need not be the same on another machine.
pub fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    MIGRATIONS.hash(&mut hasher);
    hasher.finish()
}

impl Embedded {
    pub(super) fn migration(&self) -> Result<Migration, MigrateError> {
        Migration::unapplied(self.name, self.sql)
            .map_err(|source| MigrateError::Name { name: self.name, source })
    }
}

/// Kept complete by a test that reads the folder.
const MIGRATIONS: &[(&str, &str)] = &[
    ("V1__initial_schema", include_str!("../../../../migrations/V1__initial_schema.sql")),
    ("V2__performance_indexes", include_str!("../../../../migrations/V2__performance_indexes.sql")),
];
