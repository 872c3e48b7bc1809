//! Removing expired keys while a service runs.

use std::time::Duration;

use forebay_postgres::PgPool;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::{DELETE_MAX, Error, RETENTION, delete_expired};

/// Time between two sweeps. Keys live for a day, so a few minutes more do not matter.
const INTERVAL: Duration = Duration::from_secs(600);
/// Steps of one sweep, so that a huge backlog does not occupy a connection without a pause.
const STEPS_MAX: u32 = 100;

/// Removes expired keys, at its start and then every ten minutes, until it is dropped.
///
/// Every replica may run one: they skip the rows that another is removing.
#[derive(Debug)]
#[must_use = "a dropped sweeper stops"]
pub struct Sweeper(JoinHandle<()>);

impl Sweeper {
    /// Starts sweeping. Call it from within a runtime.
    pub fn start(postgres: PgPool) -> Self {
        Self(tokio::spawn(run(postgres)))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(postgres: PgPool) {
    let mut due = tokio::time::interval(INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        match sweep(&postgres).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "expired request ids removed"),
            // Nothing is lost: the next sweep finds the same keys.
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "expired request ids stay for now");
            }
        }
    }
}

async fn sweep(postgres: &PgPool) -> Result<u64, Error> {
    let mut removed = 0;
    for _ in 0..STEPS_MAX {
        let step = delete_expired(postgres, RETENTION).await?;
        removed += step;
        if step < u64::from(DELETE_MAX) {
            break;
        }
    }
    Ok(removed)
}
