//! Deleting rows that have expired, while a service runs.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::{PgError, PgPool, Sql};

/// Time between two sweeps. What expires after hours may stay for some minutes more.
const INTERVAL: Duration = Duration::from_secs(600);
/// Rows that one statement deletes at most, so that it never holds many locks.
const STEP_MAX: u32 = 1000;
/// Statements of one sweep, so that a huge backlog does not occupy a connection without a pause.
const STEPS_MAX: u32 = 100;

/// Rows that expire.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// What the rows are, in the plural, for the log.
    pub what: &'static str,
    /// How long a row is kept.
    pub retention: Duration,
    /// Deletes at most `$2` rows (`bigint`) that are older than `$1` seconds (`double precision`),
    /// skipping rows that another transaction holds.
    pub delete: Sql,
}

impl Sweep {
    /// Deletes up to 1000 expired rows, and tells how many it deleted.
    ///
    /// # Errors
    /// When Postgres fails; then nothing was deleted.
    pub async fn step(&self, postgres: &PgPool) -> Result<u64, PgError> {
        let limit = i64::from(STEP_MAX);
        postgres.execute(&self.delete, &[&self.retention.as_secs_f64(), &limit]).await
    }

    async fn run(&self, postgres: &PgPool) -> Result<u64, PgError> {
        let mut removed = 0;
        for _ in 0..STEPS_MAX {
            let step = self.step(postgres).await?;
            removed += step;
            if step < u64::from(STEP_MAX) {
                break;
            }
        }
        Ok(removed)
    }
}

/// Deletes expired rows, at its start and then every ten minutes, until it is dropped.
///
/// Every replica may run one: they skip the rows that another is deleting.
#[derive(Debug)]
#[must_use = "a dropped sweeper stops"]
pub struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// Starts sweeping. Call it from within a runtime.
    pub fn start(postgres: PgPool, sweeps: impl Into<Vec<Sweep>>) -> Self {
        Self(tokio::spawn(run(postgres, sweeps.into())))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(postgres: PgPool, sweeps: Vec<Sweep>) {
    let mut due = tokio::time::interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        for sweep in &sweeps {
            match sweep.run(&postgres).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, what = sweep.what, "expired rows removed"),
                // Nothing is lost: the next sweep finds the same rows.
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, what = sweep.what, "expired rows stay for now");
                }
            }
        }
    }
}
