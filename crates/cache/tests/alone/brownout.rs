//! Redis hangs for half a minute under two thousand reads a second.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use forebay_cache::{EntityCache, Outcome};
use forebay_postgres::PgPool;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::burst::operations;
use crate::{BOUNDED, LOADS_PEAK, Number, Numbers, Rig, SELECT, report};

/// The default of `cache.l2_timeout`.
const L2_TIMEOUT: Duration = Duration::from_millis(30);
/// How long reads are measured while Redis answers, and how long it hangs.
const BEFORE: Duration = Duration::from_secs(5);
const HANG: Duration = Duration::from_secs(30);
/// Time in which the breaker has opened for certain: five calls that fail, each after its timeout.
const OPENS: Duration = Duration::from_secs(1);
/// Keys that L1 holds.
const HOT: i64 = 100;
/// Reads start every so often, so many of each kind: two thousand a second.
const TICK: Duration = Duration::from_millis(4);
const HOT_A_TICK: i64 = 6;
const COLD_A_TICK: i64 = 2;
/// What a cold read may take beyond Postgres: the timeout, and a little of our own.
const BEYOND: Duration = Duration::from_millis(35);
/// What a busy machine adds. The figures without it are printed.
const SLACK: Duration = Duration::from_millis(250);

/// How long reads took, while Redis was in one state.
#[derive(Debug, Default)]
struct Took {
    hot: Vec<Duration>,
    cold: Vec<Duration>,
    /// Plain statements, as a measure of Postgres at the same time.
    postgres: Vec<Duration>,
}

/// Who took what.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Hot,
    Cold,
    Postgres,
}

async fn read(numbers: EntityCache<Number, Numbers>, key: i64, kind: Kind) -> (Kind, Duration) {
    let started_at = Instant::now();
    let found = numbers.get(&key, BOUNDED).await.expect("no read fails");
    let took = started_at.elapsed();
    let expected = match kind {
        Kind::Hot => Outcome::HitL1,
        Kind::Cold | Kind::Postgres => Outcome::Loaded,
    };
    assert_eq!(found.outcome, expected, "key {key}");
    (kind, took)
}

async fn ask(postgres: Arc<PgPool>, key: i64) -> (Kind, Duration) {
    let started_at = Instant::now();
    postgres.query(&SELECT, &[&vec![key]]).await.expect("Postgres answers");
    (Kind::Postgres, started_at.elapsed())
}

/// Starts reads at the rate of the test for some time, whether earlier ones have ended or not.
async fn load(rig: &Rig, postgres: &Arc<PgPool>, cold: Range<i64>, time: Duration) -> Took {
    let (mut reads, mut took) = (JoinSet::new(), Took::default());
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut hot, mut cold) = ((0..HOT).cycle(), cold);
    let until = Instant::now() + time;
    let mut note = |(kind, time): (Kind, Duration)| match kind {
        Kind::Hot => took.hot.push(time),
        Kind::Cold => took.cold.push(time),
        Kind::Postgres => took.postgres.push(time),
    };
    for tick in 0_u32.. {
        ticks.tick().await;
        if Instant::now() >= until {
            break;
        }
        for _ in 0..HOT_A_TICK {
            reads.spawn(read(rig.numbers.clone(), hot.next().expect("endless"), Kind::Hot));
        }
        for _ in 0..COLD_A_TICK {
            reads.spawn(read(rig.numbers.clone(), cold.next().expect("enough"), Kind::Cold));
        }
        if tick.is_multiple_of(10) {
            reads.spawn(ask(Arc::clone(postgres), 1));
        }
        while let Some(ended) = reads.try_join_next() {
            note(ended.expect("a read"));
        }
    }
    while let Some(ended) = reads.join_next().await {
        note(ended.expect("a read"));
    }
    took
}

fn p99(took: &mut [Duration]) -> Duration {
    took.sort_unstable();
    took[(took.len() - 1) * 99 / 100]
}

/// Fails without the breaker (Redis would be asked some thousand times while it hangs, and each of
/// the cold reads wait for that), or if a hit in L1 asked Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_redis_costs_no_read_and_is_hardly_asked() {
    let rig = Rig::start(L2_TIMEOUT).await;
    let postgres = Arc::new(rig.database.pool());
    for key in 0..HOT {
        rig.numbers.get(&key, BOUNDED).await.expect("fills l1");
    }
    LOADS_PEAK.store(0, SeqCst);
    let mut before = load(&rig, &postgres, 1_000_000..2_000_000, BEFORE).await;
    rig.server.stop();
    let asked = operations();
    // Not measured: the first reads wait for their timeout. They do not fail either.
    load(&rig, &postgres, 2_000_000..3_000_000, OPENS).await;
    let mut hanging = load(&rig, &postgres, 3_000_000..4_000_000, HANG - OPENS).await;
    let asked = operations().mget - asked.mget;
    rig.server.cont();
    let mut p99s = Vec::new();
    for (phase, took) in [("redis answers", &mut before), ("redis hangs", &mut hanging)] {
        let counts = [took.hot.len(), took.cold.len()];
        let of = [p99(&mut took.hot), p99(&mut took.cold), p99(&mut took.postgres)];
        report(&format!(
            "{phase}: {} hits, p99 {:?}; {} cold reads, p99 {:?}; Postgres itself p99 {:?}",
            counts[0], of[0], counts[1], of[1], of[2]
        ));
        p99s.push(of);
    }
    let peak = LOADS_PEAK.load(SeqCst);
    report(&format!("{asked} reads of Redis while it hung, at most {peak} loads at once"));
    let [[hot_before, ..], [hot, cold, of_postgres]] = p99s[..] else { panic!("two phases") };
    assert!(hanging.hot.len() > 1000 && hanging.cold.len() > 500, "{hanging:?}");
    assert!(peak <= 8, "{peak} loads at once");
    assert!(asked <= 120, "redis was asked {asked} times while it hung");
    assert!(hot <= 10 * hot_before + SLACK / 10, "a hit in L1 takes {hot:?}, not {hot_before:?}");
    assert!(cold <= of_postgres + BEYOND + SLACK, "{cold:?} of which {of_postgres:?} Postgres");
}
