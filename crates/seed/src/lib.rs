//! Fills a database with the real tokens and liquidity pools, or with synthetic ones.
//!
//! [`seed()`] stores the 13,053 tokens and 134 pools of `data/` exactly as they are there; [`scale()`]
//! adds as many invented ones as asked, the same ones on every machine.
//!
//! # Guarantees
//!
//! - Idempotent: a second run changes no row and no version.
//! - What users have changed in a seeded row stays, unless [`Existing::Reset`] is asked for; then
//!   only rows that differ are written. Rows that users have added are never touched, and seeded
//!   rows that users have deleted come back.
//! - Each chunk of [`CHUNK`] rows is one transaction, so a run that is cut short leaves whole
//!   chunks and can simply be started again.
//!
//! # Failure modes
//!
//! The database must be migrated. An error names the step; the cause is Postgres' own.

mod load;
mod pools;
mod progress;
mod report;
mod scale;
pub mod source;
mod tokens;

use anyhow::Context as _;
use forebay_postgres::maintenance::Maintenance;

pub use load::{CHUNK, Existing};
pub use progress::{Progress, Stage};
pub use report::{Counts, Report};
pub use scale::{POOLS_PER_TOKENS, synthetic_pool, synthetic_token};

/// Stores the real tokens and pools in the migrated database at `url`.
///
/// `progress` is called after each chunk.
///
/// # Errors
///
/// When the database cannot be reached, is not migrated, or refuses a row.
pub async fn seed(
    url: &str,
    existing: Existing,
    mut progress: impl FnMut(Progress) + Send,
) -> anyhow::Result<Report> {
    let (tokens, pools) = (source::tokens()?, source::pools()?);
    let mut connection = Maintenance::connect(url).await.context("connect to seed")?;
    let report = Report {
        tokens: load::tokens(&mut connection, &tokens, existing, &mut progress).await?,
        pools: load::pools(&mut connection, &pools, existing, &mut progress).await?,
    };
    analyze(&connection).await?;
    connection.close().await;
    Ok(report)
}

/// Adds `count` synthetic tokens and a pool for every [`POOLS_PER_TOKENS`] of them.
///
/// The rows depend on `seed` alone: the same rows on every machine, and a larger `count` begins
/// with the rows of a smaller one.
///
/// # Errors
///
/// As for [`seed`](fn@seed).
pub async fn scale(
    url: &str,
    count: u64,
    seed: u64,
    mut progress: impl FnMut(Progress) + Send,
) -> anyhow::Result<Report> {
    let mut connection = Maintenance::connect(url).await.context("connect to seed")?;
    let report = scale::run(&mut connection, count, seed, &mut progress).await?;
    analyze(&connection).await?;
    connection.close().await;
    Ok(report)
}

/// A number that differs when the seed data differs; it names cached copies of a seeded database.
pub fn fingerprint() -> u64 {
    source::fingerprint()
}

/// So many rows at once change what a good plan is, and autovacuum may take a minute to notice.
async fn analyze(connection: &Maintenance) -> anyhow::Result<()> {
    connection
        .client()
        .batch_execute("ANALYZE tokens, pools")
        .await
        .context("gather statistics of the seeded tables")
}
