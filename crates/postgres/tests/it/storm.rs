//! Callers that go away by the thousand.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use forebay_pooling::Priority;
use forebay_postgres::{PgError, PgPool, Sql};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::support::{CREATE_TABLE, Fixture, INSERT, LOCK, SLEEP, ms};

const CONNECTIONS: u32 = 4;
const CANCELS: u32 = 10_000;
/// Where a caller may be when it goes away.
const POINTS: [&str; 4] = ["acquire or BEGIN", "statement", "rows", "COMMIT"];

/// 10,000 callers go away at a random point.
///
/// Fails when a permit leaks (a call that was not cut off finds no connection), when a connection is
/// handed out dirty (such a call meets SQLSTATE 25P02 or another's transaction), when a commit is
/// torn, or when more statements run on the server than there are connections.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_cancels_leave_nothing_behind() {
    let it = Fixture::with(|config| {
        config.connections_max = CONNECTIONS;
        config.waiting_max = 1000;
        config.acquire_timeout = ms(60_000);
    })
    .await;
    it.postgres.execute(&CREATE_TABLE, &[]).await.expect("a table");
    let started = Instant::now();
    let storm = Arc::new(Storm::default());
    let tasks: Vec<_> =
        (0..16).map(|_| tokio::spawn(Arc::clone(&storm).run(it.postgres.clone()))).collect();
    let (mut samples, mut active_max) = (0_u32, 0);
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        active_max = active_max.max(it.backends("active").await);
        samples += 1;
    }
    for task in tasks {
        task.await.expect("every call that was not cut off succeeds");
    }
    it.wait_for_stats(|stats| stats.in_use_connections == 0 && stats.limbo_connections == 0).await;
    let stats = it.postgres.stats();
    let cuts: Vec<_> = storm.cut.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    println!(
        "{} calls cut off in {:?} ({}), {} not; at most {active_max} active backends in {samples} \
         samples; {} connections closed as unclean",
        cuts.iter().sum::<u32>(),
        started.elapsed(),
        POINTS.iter().zip(&cuts).map(|(at, n)| format!("{at} {n}")).collect::<Vec<_>>().join(", "),
        storm.whole.load(Ordering::Relaxed),
        stats.discarded,
    );
    assert!(active_max <= i64::from(CONNECTIONS), "{active_max} active backends");
    assert_eq!((stats.waiting, it.backends("idle in transaction%").await), (0, 0));
    assert!(cuts.iter().all(|cut| *cut > 100), "every point was met: {cuts:?}");

    let all = (0..CONNECTIONS).map(|_| Priority::Admin.scope(it.postgres.begin()));
    for tx in futures_util::future::join_all(all).await {
        tx.expect("no permit leaked").rollback().await.expect("a rollback");
    }
    assert_eq!(it.postgres.stats().connections, CONNECTIONS);
    static TORN: Sql = Sql::new(
        "SELECT things",
        "SELECT count(*) FROM things AS one WHERE NOT EXISTS \
         (SELECT FROM things AS other WHERE other.id = -one.id)",
    );
    let torn: i64 = it.postgres.query_one(&TORN, &[]).await.expect("a count").get(0);
    assert_eq!(torn, 0, "a transaction is there whole or not at all");
}

/// Counts of one storm.
#[derive(Default)]
struct Storm {
    number: AtomicU32,
    /// Calls cut off, by point.
    cut: [AtomicU32; POINTS.len()],
    whole: AtomicU32,
}

impl Storm {
    async fn run(self: Arc<Self>, postgres: PgPool) {
        let cut_off = || self.cut.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u32>();
        while cut_off() < CANCELS {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let progress = Progress::default();
            let mut work = pin!(Box::pin(call(&postgres, number, &progress)));
            // One in eight runs to its end: what it finds is the point.
            let cut = async {
                if number.is_multiple_of(8) {
                    std::future::pending::<()>().await;
                }
                progress.cut(number).await;
            };
            tokio::select! {
                biased;
                outcome = &mut work => {
                    outcome.expect("a call that was not cut off");
                    self.whole.fetch_add(1, Ordering::Relaxed);
                }
                () = cut => {
                    self.cut[progress.now()].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// How far a call came.
#[derive(Default)]
struct Progress {
    point: AtomicUsize,
    moved: Notify,
}

impl Progress {
    fn now(&self) -> usize {
        self.point.load(Ordering::Relaxed)
    }

    fn at(&self, name: &str) {
        let point = POINTS.iter().position(|point| *point == name).expect("a point");
        self.point.store(point, Ordering::Relaxed);
        self.moved.notify_one();
    }

    /// Ends a while after the call came as far as its number says, if it comes so far.
    async fn cut(&self, number: u32) {
        // Knuth's multiplicative hash: every combination comes, in no order.
        let hash = number.wrapping_mul(2_654_435_761) >> 8;
        let target = usize::try_from(hash % 4).expect("small");
        while self.now() < target {
            self.moved.notified().await;
        }
        match hash / 4 % 4 {
            // Timers are no finer than a millisecond, and much of what is cut off takes less.
            0 | 1 => {}
            2 => tokio::task::yield_now().await,
            _ => tokio::time::sleep(Duration::from_micros(u64::from(hash / 16 % 4000))).await,
        }
    }
}

/// One call.
async fn call(postgres: &PgPool, number: u32, progress: &Progress) -> Result<(), PgError> {
    static ROWS: Sql =
        Sql::new("SELECT rows", "SELECT repeat('x', 100) FROM generate_series(1, 5000)");
    let mut tx = match number / 8 % 4 {
        0 => {
            progress.at("statement");
            return match postgres.execute(&LOCK, &[]).await {
                Err(error) if error.sqlstate() == Some("25P01") => Ok(()),
                Ok(_) => panic!("call {number} is inside the transaction of another"),
                Err(error) => Err(error),
            };
        }
        1 => {
            progress.at("rows");
            return postgres.query(&ROWS, &[]).await.map(drop);
        }
        _ => postgres.begin().await?,
    };
    progress.at("statement");
    let id = i64::from(number) + 1;
    tx.execute(&INSERT, &[&id]).await?;
    tx.query(&SLEEP, &[&0.001_f64]).await?;
    tx.execute(&INSERT, &[&-id]).await?;
    progress.at("COMMIT");
    tx.commit().await
}

/// Rounds of the race, unless time runs out first.
const ROUNDS: u32 = 20_000;
/// What the race may take on a slow machine.
const RACE_TIME: Duration = Duration::from_secs(60);
/// Connection pools of one connection, which race beside each other.
const RACES: u32 = 12;

/// 20,000 statements are cut off about when they end by themselves, and another one follows on the
/// same connection at once.
///
/// Fails when the janitor does not wait until the server has passed the signal on: some of the
/// statements that follow are cancelled instead (SQLSTATE 57014).
#[tokio::test(flavor = "multi_thread")]
async fn a_late_cancel_hits_nobody_else() {
    let it = Fixture::new(1).await;
    let started = Instant::now();
    let rounds = Arc::new(AtomicU32::new(0));
    let races: Vec<_> = (0..RACES)
        .map(|_| {
            let mut config = forebay_testkit::postgres_config(it.database.url());
            config.connections_max = 1;
            let postgres = PgPool::new(&config, "it-race").expect("a connection pool");
            tokio::spawn(race(postgres, Arc::clone(&rounds), started))
        })
        .collect();
    let (mut done, mut cut, mut foreign) = (0, 0, 0);
    for race in races {
        let (its_done, its_cut, its_foreign) = race.await.expect("no other error");
        done += its_done;
        cut += its_cut;
        foreign += its_foreign;
    }
    println!(
        "{done} rounds, {cut} statements cut off, {foreign} others cancelled, {:?}",
        started.elapsed()
    );
    assert!(
        foreign == 0,
        "{foreign} of {done} statements after one that was cut off are cancelled"
    );
    assert!(cut > 1000, "{cut} statements were cut off");
}

async fn race(postgres: PgPool, rounds: Arc<AtomicU32>, started: Instant) -> (u32, u32, u32) {
    let (mut done, mut cut, mut foreign) = (0, 0, 0);
    while started.elapsed() < RACE_TIME {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        if round >= ROUNDS {
            break;
        }
        // Around the grace of 5 ms, so that many statements end just as they are cancelled.
        let seconds = 0.006 + f64::from(round % 40) / 10_000.0;
        cut += u32::from(timeout(ms(1), postgres.query(&SLEEP, &[&seconds])).await.is_err());
        // Still running when a late signal arrives.
        match postgres.query(&SLEEP, &[&0.003_f64]).await {
            Ok(_) => {}
            Err(PgError::StatementTimeout { source: Some(_) }) => foreign += 1,
            Err(error) => panic!("round {round}: {error:?}"),
        }
        done += 1;
    }
    (done, cut, foreign)
}
