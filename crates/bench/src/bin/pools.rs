//! Connection pools: ours, those of others, and the stores' own load programs.
//!
//! Run it by `cargo xtask bench pools`, which starts the stores and passes where they are:
//! `DATABASE_URL`, `REDIS_URL`, and `PGBENCH` and `REDIS_BENCHMARK` when there are such programs.
//! To look into one side, for example with a profiler, name numbers of tasks and beginnings of
//! sides' names as arguments: `pools 64 PgPool deadpool`.

use anyhow::Context as _;
use forebay_bench::pools::{Selection, gate, postgres, redis};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let postgres_url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    let redis_url = std::env::var("REDIS_URL").context("REDIS_URL")?;
    let selection = Selection::from_args(std::env::args().skip(1));
    if !selection.is_narrow() {
        gate::measure().await.context("gate")?;
    }
    postgres::measure(&postgres_url, &selection).await.context("Postgres")?;
    redis::measure(&redis_url, &selection).await.context("Redis")
}
