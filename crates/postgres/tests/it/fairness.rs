//! Nobody starves.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use forebay_pooling::Priority;
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
    /// The same waits, each as the number of calls that were sent meanwhile.
    turns: Vec<usize>,
}

/// A number that notes how long it took until it was sent: what the server does after that, and
/// how soon the machine lets it, is not a matter of fairness.
#[derive(Debug)]
struct Sent {
    asked: Instant,
    waited: Mutex<Duration>,
    number: u64,
    /// How many calls had been sent when it asked, and then how many were sent while it waited.
    turns: Mutex<usize>,
    order: Order,
}

/// Calls in the order in which they were sent, each by the place at which it asked.
type Order = Arc<Mutex<Vec<u64>>>;

impl ToSql for Sent {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        *self.waited.lock() = self.asked.elapsed();
        let mut order = self.order.lock();
        let mut turns = self.turns.lock();
        *turns = order.len() - *turns;
        order.push(self.number);
        1_i32.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <i32 as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

const CONNECTIONS: u32 = 8;

async fn fixture() -> Fixture {
    let it = Fixture::with(|config| {
        config.connections_max = CONNECTIONS;
        config.waiting_max = 1000;
        config.acquire_timeout = Duration::from_secs(30);
    });
    let it = it.await;
    // The statement is prepared on every connection: what is left between getting one and sending
    // is nothing that another caller could use.
    let all = (0..CONNECTIONS).map(|_| Priority::Admin.scope(it.postgres.begin()));
    for tx in futures_util::future::join_all(all).await {
        let mut tx = tx.expect("a connection");
        tx.query(&ECHO, &[&1_i32]).await.expect("an answer");
        tx.rollback().await.expect("a rollback");
    }
    it
}

/// What each of so many tasks has seen, and the order in which their calls were sent.
async fn load(tasks: usize, load: Duration) -> (Vec<Seen>, Vec<u64>) {
    let it = fixture().await;
    let (asked, order) = (Arc::new(AtomicU64::new(0)), Order::default());
    let until = Instant::now() + load;
    let tasks: Vec<_> = (0..tasks)
        .map(|_| {
            let postgres = it.postgres.clone();
            let (asked, order) = (Arc::clone(&asked), Arc::clone(&order));
            tokio::spawn(async move {
                let (mut waits, mut turns) = (Vec::new(), Vec::new());
                while Instant::now() < until {
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    let sent = Sent {
                        asked: Instant::now(),
                        waited: Mutex::default(),
                        number,
                        turns: Mutex::new(order.lock().len()),
                        order: Arc::clone(&order),
                    };
                    postgres.query_one(&ECHO, &[&sent]).await.expect("its turn");
                    waits.push(sent.waited.into_inner());
                    turns.push(sent.turns.into_inner());
                }
                Seen { waits, turns }
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.push(task.await.expect("the task ends"));
    }
    let order = std::mem::take(&mut *order.lock());
    (seen, order)
}

/// On one thread nothing comes between asking and taking a place in the queue, so the order is
/// exact, however slow the machine is. Waits are counted in turns, which are the calls that were
/// sent meanwhile: a machine that stands still makes a wait long, and not one turn longer.
///
/// Fails when the gate lets in whoever came last.
#[tokio::test]
async fn nobody_is_overtaken() {
    let _alone = ALONE.lock().await;
    for tasks in [64, 512] {
        let (seen, order) = load(tasks, LOAD / 2).await;
        let overtaken = order.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let mut turns: Vec<_> = seen.into_iter().flat_map(|task| task.turns).collect();
        turns.sort_unstable();
        let (p99, max) = (turns[(turns.len() - 1) * 99 / 100], turns[turns.len() - 1]);
        println!(
            "fairness: {tasks} tasks on one thread, {} calls, {overtaken} overtaken; turns waited: \
             p99 {p99}, max {max}",
            order.len()
        );
        assert_eq!(overtaken, 0, "of {} calls of {tasks} tasks", order.len());
        assert!(max < 5 * p99, "somebody waited {max} turns, 99 of 100 no more than {p99}");
    }
}

/// On two threads, as services run. Here the longest wait is not compared with the others: one
/// thread may stand still between asking and taking a place, and then it waits for the machine.
/// [`nobody_is_overtaken`] compares them in turns.
///
/// Fails when the gate lets in whoever came last: some of the tasks wait for the whole run, as they
/// do with bb8 alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_a_fair_share() {
    let _alone = ALONE.lock().await;
    for tasks in [64, 512] {
        let (seen, _) = load(tasks, LOAD).await;
        let counts: Vec<_> = seen.iter().map(|task| task.waits.len()).collect();
        let (least, sum) =
            (counts.iter().min().copied().unwrap_or(0), counts.iter().sum::<usize>());
        let mut waits: Vec<_> = seen.into_iter().flat_map(|task| task.waits).collect();
        waits.sort_unstable();
        let at = |percent: usize| waits[(waits.len() - 1) * percent / 100];
        let (p50, p99, max) = (at(50), at(99), at(100));
        println!(
            "fairness: {tasks} tasks, {CONNECTIONS} connections, {LOAD:?}: {sum} answers, least \
             {least} of mean {}, p50 {p50:?}, p99 {p99:?}, max {max:?}",
            sum / tasks
        );
        assert!(least * 2 >= sum / tasks, "{least} for one of {tasks} tasks, {sum} for all");
        // In a queue everybody waits about as long as everybody else, however slow the machine is.
        assert!(max < p50 * 4 + ms(1000), "{tasks} tasks: somebody waited {max:?}");
    }
}
