//! Readers that go on for ever, and somebody who counts what they do to a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forebay_postgres::maintenance::Maintenance;
use forebay_postgres::{Consistency, PgError, PgPool};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{PATIENCE, SLOW_VALUE};
use crate::support::ms;

/// Tasks that read without pause.
pub(super) struct Readers {
    answered: Arc<[AtomicU64]>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Option<PgError>>>,
}

impl Readers {
    pub(super) fn start(postgres: &PgPool, count: usize) -> Self {
        let answered: Arc<[AtomicU64]> = (0..count).map(|_| AtomicU64::new(0)).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..count).map(|number| {
            let reader = postgres.read_at(Consistency::Lagging(PATIENCE));
            let (answered, stop) = (Arc::clone(&answered), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = reader.query_one(&SLOW_VALUE, &[]).await {
                        return Some(error);
                    }
                    answered[number].fetch_add(1, Ordering::Relaxed);
                }
                None
            })
        });
        let tasks = tasks.collect();
        Self { answered, stop, tasks }
    }

    /// Waits until every reader had two more answers; returns how long that took.
    pub(super) async fn goes_on(&self) -> Duration {
        let started = Instant::now();
        let before = self.counts();
        while self.counts().iter().zip(&before).any(|(now, before)| *now < before + 2) {
            if self.tasks.iter().any(JoinHandle::is_finished) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{:?} of {before:?}", self.counts());
            sleep(ms(5)).await;
        }
        started.elapsed()
    }

    /// Ends them; returns how many answers they had, and what went wrong.
    pub(super) async fn stop(self) -> (u64, Vec<PgError>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut errors = Vec::new();
        for task in self.tasks {
            errors.extend(task.await.expect("the task ends"));
        }
        (self.answered.iter().map(|count| count.load(Ordering::Relaxed)).sum(), errors)
    }

    fn counts(&self) -> Vec<u64> {
        self.answered.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

/// Counts backends on a server from outside.
pub(super) struct Watch {
    reads: Arc<AtomicI64>,
    backends: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(super) async fn start(url: &str) -> Self {
        let connection = Maintenance::connect(url).await.expect("a connection");
        let (reads, backends) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let task = tokio::spawn({
            let (reads, backends) = (Arc::clone(&reads), Arc::clone(&backends));
            async move {
                let statement = "SELECT count(*) FILTER (WHERE state = 'active' \
                                   AND query LIKE '%AS replica_test'), count(*) \
                                 FROM pg_stat_activity WHERE application_name LIKE 'replicas/%'";
                while let Ok(row) = connection.client().query_one(statement, &[]).await {
                    reads.fetch_max(row.get(0), Ordering::Relaxed);
                    backends.fetch_max(row.get(1), Ordering::Relaxed);
                    sleep(ms(1)).await;
                }
            }
        });
        Self { reads, backends, task }
    }

    /// The most reads at once and the most backends that were seen.
    pub(super) fn highest(&self) -> (i64, i64) {
        assert!(!self.task.is_finished(), "the server does not answer");
        (self.reads.load(Ordering::Relaxed), self.backends.load(Ordering::Relaxed))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
