//! One side of a comparison: a closed loop of tasks, and what it saw.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// What one round of one side did. A time is that from the call to the answer, the wait for a
/// connection included.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Answers per second.
    pub throughput: f64,
    /// How long callers waited, when the side tells.
    pub waits: Option<Waits>,
    /// Answers of the least-served task as a share of the mean, when the side tells.
    pub least_share: Option<f64>,
}

/// How long callers waited for an answer, in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Waits {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile; `None` when the side does not tell.
    pub p999_us: Option<f64>,
    /// The longest.
    pub max_us: f64,
}

/// A future on the heap.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs one round with that many tasks for about that time.
type Run = Box<dyn FnMut(usize, Duration) -> Boxed<'static, anyhow::Result<Figures>> + Send>;

/// A side that can be run in rounds.
pub struct Side {
    /// Name and version.
    pub name: String,
    /// It cannot run with fewer tasks.
    pub tasks_min: usize,
    run: Run,
}

impl Side {
    /// A side whose tasks run in this process: each calls `operation` with a random number and
    /// calls again when it has its answer. A single failed call fails the round: a fast error is
    /// no speed.
    pub fn in_process<F, Fut>(name: impl Into<String>, operation: F) -> Self
    where
        F: Fn(u32) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self::new(name, move |tasks, duration| {
            Box::pin(closed_loop(operation.clone(), tasks, duration))
        })
    }

    /// A side that runs its rounds in its own way.
    pub fn new(
        name: impl Into<String>,
        run: impl FnMut(usize, Duration) -> Boxed<'static, anyhow::Result<Figures>> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), tasks_min: 1, run: Box::new(run) }
    }

    /// The same side, left out when there are fewer tasks.
    #[must_use]
    pub fn with_tasks_min(self, tasks_min: usize) -> Self {
        Self { tasks_min, ..self }
    }

    /// Runs one round.
    ///
    /// # Errors
    /// When any call failed.
    pub async fn round(&mut self, tasks: usize, duration: Duration) -> anyhow::Result<Figures> {
        (self.run)(tasks, duration).await.with_context(|| format!("{}, {tasks} tasks", self.name))
    }
}

async fn closed_loop<F, Fut>(
    operation: F,
    tasks: usize,
    duration: Duration,
) -> anyhow::Result<Figures>
where
    F: Fn(u32) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let tasks: Vec<_> = (1..=tasks as u64)
        .map(|seed| tokio::spawn(caller(operation.clone(), seed, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(duration).await;
    stop.store(true, Ordering::Relaxed);
    let mut times = Vec::new();
    for task in tasks {
        times.push(task.await??);
    }
    summary(&times, started.elapsed())
}

/// Times to an answer in nanoseconds, capped at the 4 seconds that fit.
async fn caller<F, Fut>(operation: F, seed: u64, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<u32>>
where
    F: Fn(u32) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Xorshift (Marsaglia, 2003): spreads the keys, costs nothing.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let sent = Instant::now();
        operation((random >> 32) as u32).await?;
        times.push(u32::try_from(sent.elapsed().as_nanos()).unwrap_or(u32::MAX));
    }
    Ok(times)
}

fn summary(times_by_task: &[Vec<u32>], elapsed: Duration) -> anyhow::Result<Figures> {
    let mut times: Vec<u32> = times_by_task.iter().flatten().copied().collect();
    ensure!(!times.is_empty(), "no answer in {elapsed:?}");
    times.sort_unstable();
    let at = |share: f64| f64::from(times[((times.len() - 1) as f64 * share) as usize]) / 1e3;
    let answers = times.len() as f64;
    let least = times_by_task.iter().map(Vec::len).min().unwrap_or(0) as f64;
    Ok(Figures {
        throughput: answers / elapsed.as_secs_f64(),
        waits: Some(Waits {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: Some(at(0.999)),
            max_us: at(1.0),
        }),
        least_share: Some(least * times_by_task.len() as f64 / answers),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::summary;

    #[test]
    fn the_least_served_task_is_seen() {
        let times = [vec![1000; 9], vec![5000; 3]];
        let figures = summary(&times, Duration::from_secs(2)).unwrap();
        assert_eq!(figures.throughput, 6.0);
        assert_eq!(figures.least_share, Some(0.5));
        let waits = figures.waits.unwrap();
        assert_eq!((waits.p50_us, waits.max_us), (1.0, 5.0));
        assert!(summary(&[Vec::new()], Duration::from_secs(1)).is_err());
    }
}
