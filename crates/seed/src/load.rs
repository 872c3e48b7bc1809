//! Loading rows, chunk by chunk, so that neither memory nor a transaction grows with their number.

use anyhow::{Context as _, bail};
use forebay_postgres::maintenance::Maintenance;
use uuid::Uuid;

use crate::pools::{self, PoolRow};
use crate::source::{SeedPool, SeedToken};
use crate::tokens::{self, TokenRow};
use crate::{Counts, Progress, Stage};

/// Rows in one transaction.
pub const CHUNK: usize = 2000;

/// What to do with a row that is there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Existing {
    /// Leave it as it is: it may hold what a user has changed.
    #[default]
    Keep,
    /// Set it back to the seed data where it differs.
    Reset,
}

type OnProgress<'a> = &'a mut (dyn FnMut(Progress) + Send);

pub(crate) async fn tokens(
    connection: &mut Maintenance,
    tokens: &[SeedToken],
    existing: Existing,
    progress: OnProgress<'_>,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for chunk in tokens.chunks(CHUNK) {
        let rows = chunk.iter().map(|token| (Uuid::now_v7(), token));
        counts.add(token_chunk(connection, rows, existing).await?);
        progress(step(Stage::Tokens, counts, tokens.len()));
    }
    Ok(counts)
}

pub(crate) async fn pools(
    connection: &mut Maintenance,
    pools: &[SeedPool],
    existing: Existing,
    progress: OnProgress<'_>,
) -> anyhow::Result<Counts> {
    let mut counts = Counts::default();
    for chunk in pools.chunks(CHUNK) {
        let rows = chunk.iter().map(|pool| (Uuid::now_v7(), pool));
        counts.add(pool_chunk(connection, rows, existing).await?);
        progress(step(Stage::Pools, counts, pools.len()));
    }
    Ok(counts)
}

/// Loads some tokens in one transaction.
pub(crate) async fn token_chunk<'a>(
    connection: &mut Maintenance,
    rows: impl Iterator<Item = (Uuid, &'a SeedToken)>,
    existing: Existing,
) -> anyhow::Result<Counts> {
    let rows: Vec<_> = rows.map(|(id, token)| TokenRow::new(id, token)).collect();
    begin(connection, tokens::STAGE).await?;
    let staged = connection
        .copy(tokens::COPY, &tokens::TYPES, rows.iter().map(TokenRow::columns))
        .await
        .context("copy tokens")?;
    merge(connection, staged, existing, tokens::RESET, tokens::INSERT).await.context("store tokens")
}

/// Loads some pools in one transaction.
pub(crate) async fn pool_chunk<'a>(
    connection: &mut Maintenance,
    rows: impl Iterator<Item = (Uuid, &'a SeedPool)>,
    existing: Existing,
) -> anyhow::Result<Counts> {
    let rows: Vec<_> = rows.map(|(id, pool)| PoolRow::new(id, pool)).collect::<Result<_, _>>()?;
    begin(connection, pools::STAGE).await?;
    let staged = connection
        .copy(pools::COPY, &pools::TYPES, rows.iter().map(PoolRow::columns))
        .await
        .context("copy pools")?;
    if let Some(row) = connection.client().query_opt(pools::MISSING, &[]).await? {
        bail!("a token of pool {} is not in the database", row.get::<_, &str>(0));
    }
    merge(connection, staged, existing, pools::RESET, pools::INSERT).await.context("store pools")
}

/// An error on the way leaves the transaction open; the connection is closed with it, and Postgres
/// rolls back.
async fn begin(connection: &Maintenance, stage: &str) -> anyhow::Result<()> {
    connection.client().batch_execute(&format!("BEGIN; {stage}")).await.context("stage the rows")
}

async fn merge(
    connection: &Maintenance,
    staged: u64,
    existing: Existing,
    reset: &str,
    insert: &str,
) -> anyhow::Result<Counts> {
    let client = connection.client();
    let reset = match existing {
        Existing::Keep => 0,
        Existing::Reset => client.execute(reset, &[]).await?,
    };
    let inserted = client.execute(insert, &[]).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Counts { inserted, reset, kept: staged - inserted - reset })
}

pub(crate) fn step(stage: Stage, counts: Counts, total: usize) -> Progress {
    let total = u64::try_from(total).unwrap_or(u64::MAX);
    Progress { stage, done: counts.total(), total }
}
