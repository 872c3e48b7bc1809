//! Migrations against a real Postgres.

mod indexes;
mod schema;

use std::fs;
use std::path::Path;

use forebay_testkit::{TestDatabase, empty_database};

use super::*;

#[test]
fn every_file_of_the_folder_is_embedded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
        .collect();
    files.sort();
    let names: Vec<_> = embedded().iter().map(|migration| migration.name.to_owned()).collect();
    assert_eq!(names, files);
}

#[tokio::test]
async fn a_second_run_has_nothing_to_do() {
    let database = empty_database().await;
    let first = run(database.url()).await.unwrap();
    let names: Vec<_> = first.applied.iter().map(|applied| applied.name.as_str()).collect();
    assert_eq!(names, ["initial_schema", "performance_indexes"]);
    assert_eq!(first.version, 2);

    let second = run(database.url()).await.unwrap();
    assert_eq!(second, Report { version: 2, applied: Vec::new() });
}

/// Fails without the advisory lock: both runners would create the same tables.
#[tokio::test]
async fn of_runners_that_start_together_one_migrates() {
    let database = empty_database().await;
    let runs = (0..6).map(|_| run(database.url()));
    let reports = futures_util::future::try_join_all(runs).await.unwrap();
    let working = reports.iter().filter(|report| !report.applied.is_empty()).count();
    assert_eq!(working, 1);
    assert!(reports.iter().all(|report| report.version == 2));
}

const ONE: Embedded = Embedded { name: "V1__one", sql: "CREATE TABLE one ()" };
const TWO: Embedded = Embedded { name: "V2__two", sql: "CREATE TABLE two ()" };
const THREE: Embedded = Embedded { name: "V3__three", sql: "CREATE TABLE three ()" };

/// Applies `before`, then `after`; the second run must fail with `expected` and change nothing.
async fn check_refused(before: &[Embedded], after: &[Embedded], expected: &str) {
    let database = empty_database().await;
    run_these(database.url(), before).await.unwrap();
    let history = history_of(&database).await;
    let error = run_these(database.url(), after).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(history_of(&database).await, history);
}

async fn history_of(database: &TestDatabase) -> Vec<Applied> {
    let connection = Maintenance::connect(database.url()).await.unwrap();
    history::read(connection.client()).await.unwrap()
}

#[tokio::test]
async fn a_history_that_differs_is_refused_by_name() {
    let edited = Embedded { sql: "CREATE TABLE one (id integer)", ..ONE };
    let renamed = Embedded { name: "V1__uno", ..ONE };
    let sum = |migration: Embedded| migration.migration().unwrap().checksum();
    let diverged = |now: &str, then: u64, than: u64| {
        format!(
            "migration 1 was changed after it was applied: expected {now} (checksum {than}), \
             the database has V1__one (checksum {then})"
        )
    };
    check_refused(&[ONE], &[edited], &diverged("V1__one", sum(ONE), sum(edited))).await;
    check_refused(&[ONE], &[renamed, TWO], &diverged("V1__uno", sum(ONE), sum(renamed))).await;
    check_refused(
        &[ONE, TWO],
        &[ONE],
        "the database has migration V2__two, this build ends at version 1",
    )
    .await;
    check_refused(
        &[ONE, THREE],
        &[ONE, TWO, THREE],
        "migration V2__two is not applied, but the database is at version 3",
    )
    .await;
}

#[tokio::test]
async fn a_migration_that_fails_is_named_and_rolled_back() {
    let database = empty_database().await;
    let broken = Embedded { name: "V2__broken", sql: "CREATE TABLE two (); SELECT 1 / 0" };
    let error = run_these(database.url(), &[ONE, broken, THREE]).await.unwrap_err();
    assert_eq!(error.to_string(), "apply migration V2__broken");

    let report = run_these(database.url(), &[ONE, TWO, THREE]).await.unwrap();
    assert_eq!(report.applied.len(), 2, "the first stayed, the second left nothing behind");
}

/// Fails when records are not checked before the migration library reads them: it panics.
#[tokio::test]
async fn a_damaged_history_is_refused() {
    for (column, value) in [("checksum", "not a number"), ("applied_on", "yesterday")] {
        let database = empty_database().await;
        run_these(database.url(), &[ONE]).await.unwrap();
        let connection = Maintenance::connect(database.url()).await.unwrap();
        let damage = format!("UPDATE refinery_schema_history SET {column} = $1");
        connection.client().execute(&damage, &[&value]).await.unwrap();
        let error = run_these(database.url(), &[ONE, TWO]).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the history of migrations is damaged: {column} of version 1 cannot be read")
        );
    }
}
