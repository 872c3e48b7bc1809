//! Applies the database migrations and prints the version reached.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use forebay_boot::Process;
use forebay_config::Config;
use forebay_postgres::migrate;

fn main() -> ExitCode {
    forebay_boot::run_job("migrate", run)
}

async fn run(config: Config, _process: Process) -> anyhow::Result<()> {
    let report = migrate::run(config.postgres.url.expose()).await.context("migrate")?;
    let mut out = std::io::stdout().lock();
    for applied in &report.applied {
        writeln!(out, "applied V{}__{}", applied.version, applied.name)?;
    }
    writeln!(out, "schema version {}", report.version)?;
    Ok(())
}
