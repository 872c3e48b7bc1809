//! Nobody starves.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use forebay_postgres::{Sql, ToSql, Type};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_postgres::types::{IsNull, to_sql_checked};

use crate::support::{ALONE, Fixture, ms};

/// How long each of the loads lasts.
const LOAD: Duration = Duration::from_secs(2);

/// The statement of the load: its parameter is encoded when it is sent.
static ECHO: Sql = Sql::new("SELECT int4", "SELECT $1::int4");

struct Seen {
    waits: Vec<Duration>,
}

/// A number that notes how long it took until it was sent: what the server does after that, and
/// how soon the machine lets it, is not a matter of fairness.
#[derive(Debug)]
struct Sent {
    asked: Instant,
    waited: Mutex<Duration>,
}

impl ToSql for Sent {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        *self.waited.lock() = self.asked.elapsed();
        1_i32.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <i32 as ToSql>::accepts(ty)
    }

    to_sql_checked!();
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
                    let sent = Sent { asked: Instant::now(), waited: Mutex::default() };
                    postgres.query_one(&ECHO, &[&sent]).await.expect("its turn");
                    waits.push(sent.waited.into_inner());
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

/// Fails with neither the gate nor the line below it, each of which keeps the order for itself:
/// bb8 alone lets some of the tasks wait for the whole run.
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
        assert!(max < p50 * 4 + ms(1000), "{tasks} tasks: somebody waited {max:?}");
    }
}
