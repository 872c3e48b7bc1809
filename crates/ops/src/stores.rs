//! The stores of a process: watched while it runs, and ended in order.

use std::time::Duration;

use forebay_boot::Process;
use forebay_pooling::{Deadline, Priority};
use forebay_postgres::{BudgetError, PgPool};
use forebay_redis::RedisPool;

/// How long to wait before the server is asked again how many connections it has.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Postgres and Redis of one process.
#[derive(Debug)]
pub struct Stores {
    postgres: PgPool,
    redis: RedisPool,
}

impl Stores {
    /// The stores behind these connection pools.
    pub fn new(postgres: &PgPool, redis: &RedisPool) -> Self {
        Self { postgres: postgres.clone(), redis: redis.clone() }
    }

    /// Reports on both until the process stops: it is not ready before Postgres has answered
    /// once; Redis may come and go.
    pub fn watch(&self, process: &Process) {
        let postgres = self.postgres.clone();
        process.watch(process.readiness.component("postgres"), move || {
            let postgres = postgres.clone();
            async move { Priority::Admin.scope(postgres.ready()).await }
        });
        let redis = self.redis.clone();
        process.watch(process.readiness.optional_component("redis"), move || {
            let redis = redis.clone();
            async move { redis.ready().await }
        });
    }

    /// Runs `serving` to its end, unless all processes together could open more connections than
    /// the server has: then this one must not run. The server is asked once it answers.
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`] with the arithmetic.
    pub async fn within_budget(
        &self,
        serving: impl Future<Output = ()>,
    ) -> Result<(), BudgetError> {
        tokio::select! {
            () = serving => Ok(()),
            error = self.outgrown() => Err(error),
        }
    }

    /// Ends both once nobody asks any more: Redis first, because the last commits announce what
    /// they changed there. What is still under way at `deadline` is cut off, which takes Postgres
    /// two seconds at most.
    pub async fn drain(&self, deadline: Deadline) {
        self.redis.drain(deadline).await;
        let cut_off = self.postgres.drain(deadline).await;
        if cut_off > 0 {
            tracing::warn!(cut_off, "statements were cut off by the end of the process");
        }
    }

    /// Ends when the connections do not fit, else never.
    async fn outgrown(&self) -> BudgetError {
        loop {
            match Priority::Admin.scope(self.postgres.check_budget()).await {
                Ok(report) => {
                    tracing::info!(planned = report.planned(), %report, "connections fit");
                    return std::future::pending().await;
                }
                Err(error @ BudgetError::Exceeded(_)) => return error,
                // Whether the server can be reached is told by what watches it.
                Err(BudgetError::Unknown(_)) => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
    }
}
