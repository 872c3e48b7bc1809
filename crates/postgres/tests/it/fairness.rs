//! Nobody starves.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::support::{ALONE, Fixture, PID, ms};

/// How long each of the loads lasts.
const LOAD: Duration = Duration::from_secs(2);

struct Seen {
    waits: Vec<Duration>,
}

async fn load(tasks: usize) -> Vec<Seen> {
    let it = Arc::new(
        Fixture::with(|config| {
            config.connections_max = 8;
            config.waiting_max = 1000;
            config.acquire_timeout = Duration::from_secs(30);
        })
        .await,
    );
    let until = Instant::now() + LOAD;
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let postgres = it.postgres.clone();
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while Instant::now() < until {
                    let started = Instant::now();
                    postgres.query_one(&PID, &[]).await.expect("its turn");
                    waits.push(started.elapsed());
                }
                Seen { waits }
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.expect("the task ends"));
    }
    seen
}

/// Fails without the gate: plain bb8 lets one of 64 tasks wait for the whole run (3.0 s of 3.0 s).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_a_fair_share() {
    let _alone = ALONE.lock().await;
    for tasks in [64, 512] {
        let seen = load(tasks).await;
        let counts: Vec<_> = seen.iter().map(|task| task.waits.len()).collect();
        let (least, sum) =
            (counts.iter().min().copied().unwrap_or(0), counts.iter().sum::<usize>());
        let mut waits: Vec<_> = seen.into_iter().flat_map(|task| task.waits).collect();
        waits.sort_unstable();
        let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
        let (p50, p99, max) = (at(50), at(99), at(100));
        println!(
            "fairness: {tasks} tasks, 8 connections, {LOAD:?}: {sum} answers, least {least} of \
             mean {}, p50 {p50:?}, p99 {p99:?}, max {max:?}",
            sum / tasks
        );
        assert!(least * 2 >= sum / tasks, "{least} for one of {tasks}, {sum} for all");
        // In a queue everybody waits about as long as everybody else, however slow the machine is.
        assert!(max < p50 * 4 + ms(500), "{tasks} tasks: somebody waited {max:?}");
    }
}
