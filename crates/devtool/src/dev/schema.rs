//! The database of an instance: created, migrated, and seeded once.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::migrate;
use forebay_seed::Existing;

use super::board::Board;

/// Name of the database on a server of ours.
pub(crate) const DATABASE: &str = "forebay";

/// Brings the database at `url` to the schema of this build.
///
/// # Errors
///
/// What the migration says.
pub(crate) async fn migrate(url: &str, board: &Arc<Board>) -> anyhow::Result<()> {
    let report = migrate::run(url).await.context(
        "migrate the database (if its data may go, `cargo xtask dev --fresh` makes a new one)",
    )?;
    for applied in &report.applied {
        board.say(&format!("applied V{}__{}", applied.version, applied.name));
    }
    Ok(())
}

/// Stores the real tokens and liquidity pools, unless this database has had them already: what a
/// developer deletes stays deleted, until `--fresh`.
///
/// # Errors
///
/// What the seeding says.
pub(crate) async fn seed_once(url: &str, board: &Arc<Board>) -> anyhow::Result<()> {
    let mark = Mark::of(url, board).await?;
    if mark.is_set() {
        return Ok(());
    }
    board.say("seeding tokens and liquidity pools");
    let report = forebay_seed::seed(url, Existing::Keep, |_| {}).await.context("seed")?;
    board.say(&format!("seeded: {report}"));
    mark.set()
}

/// A file that tells which database was seeded with which data.
struct Mark {
    path: PathBuf,
    text: String,
}

impl Mark {
    async fn of(url: &str, board: &Board) -> anyhow::Result<Self> {
        let connection = Maintenance::connect(url).await.context("connect to the database")?;
        let sql = "select system_identifier::text || '/' || current_database() \
                   from pg_control_system()";
        let row = connection.client().query_one(sql, &[]).await;
        let database: String = row.context("identify the database")?.get(0);
        connection.close().await;
        let text = format!("{database} {:016x}\n", forebay_seed::fingerprint());
        Ok(Self { path: board.instance().dir.join("seeded"), text })
    }

    fn is_set(&self) -> bool {
        std::fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    fn set(&self) -> anyhow::Result<()> {
        std::fs::write(&self.path, &self.text)
            .with_context(|| format!("write {}", self.path.display()))
    }
}
