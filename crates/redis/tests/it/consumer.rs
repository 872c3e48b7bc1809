//! Acceptance: consumers of a queue that are cancelled all the time, beside readers who must not
//! notice.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use forebay_config::RedisConfig;
use forebay_redis::{Command, DedicatedRedis, RedisPool, Reply};
use forebay_testkit::{PrivateRedis, redis_config};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{eventually, text};

const LONG: Duration = Duration::from_secs(30);
/// How long a consumer blocks: far longer than the test runs, so that a command nobody waits for any
/// more would be seen.
const BLOCK: Duration = Duration::from_secs(300);
const CANCELLED: usize = 1000;

/// What the consumers did, by job.
#[derive(Debug, Default)]
struct Book {
    received: HashMap<String, u32>,
    acknowledged: HashMap<String, u32>,
    received_after_ack: u32,
}

async fn call(lease: &mut DedicatedRedis, command: Command) -> Reply {
    lease.call(&command, LONG).await.expect("command")
}

/// Moves one job to the list of those being worked on, and takes it off that list when it is done.
/// The acknowledgement rule: a job that was moved and not acknowledged is delivered again, and one
/// that was acknowledged never.
async fn consume(pool: &RedisPool, book: &parking_lot::Mutex<Book>) {
    let mut lease = pool.dedicated().await.expect("lease");
    let seconds = BLOCK.as_secs().to_string();
    let take = Command::new("BLMOVE").key("jobs").key("working").arg("LEFT").arg("RIGHT");
    let job = lease.call_blocking(&take.arg(seconds), BLOCK).await.expect("a job");
    let job = text(&job);
    {
        let mut book = book.lock();
        if book.acknowledged.contains_key(&job) {
            book.received_after_ack += 1;
        }
        *book.received.entry(job.clone()).or_default() += 1;
    }
    let done = Command::new("LREM").key("working").arg("1").arg(&job);
    if call(&mut lease, done).await == Reply::Int(1) {
        *book.lock().acknowledged.entry(job).or_default() += 1;
    }
}

/// Puts back what was moved for consumers that are gone.
async fn recover(lease: &mut DedicatedRedis) -> u64 {
    let mut recovered = 0;
    let back = Command::new("LMOVE").key("working").key("jobs").arg("RIGHT").arg("LEFT");
    while call(lease, back.clone()).await != Reply::Nil {
        recovered += 1;
    }
    recovered
}

/// Reads on the shared handle until told to stop; times to an answer, sorted.
fn read(pool: &RedisPool, stop: &Arc<AtomicBool>) -> JoinHandle<Vec<Duration>> {
    let (shared, stop) = (pool.shared(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut times = Vec::new();
        while !stop.load(SeqCst) {
            let asked = Instant::now();
            shared.get("k").await.expect("a read beside blocked consumers");
            times.push(asked.elapsed());
            tokio::task::yield_now().await;
        }
        times.sort_unstable();
        times
    })
}

fn p99(times: &[Duration]) -> Duration {
    times[(times.len() - 1) * 99 / 100]
}

/// Fails when a lease whose command is under way is given back instead of closed: its command goes
/// on blocking in the name of a caller that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_cancelled_consumers_lose_and_double_nothing() {
    let server = PrivateRedis::start();
    let config = RedisConfig { dedicated_max: 8, ..redis_config(&server.url(), "p:") };
    let pool = RedisPool::new(&config).expect("settings");
    pool.shared().set_px("k", "v", LONG * 100).await.expect("set");

    let stop = Arc::new(AtomicBool::new(false));
    let alone = read(&pool, &stop);
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, SeqCst);
    let alone = alone.await.expect("reader");

    let stop = Arc::new(AtomicBool::new(false));
    let beside = read(&pool, &stop);
    let book = Arc::new(parking_lot::Mutex::new(Book::default()));
    let mut keeper = pool.dedicated().await.expect("lease");
    let (mut produced, mut recovered) = (0_u32, 0);
    let (mut cancelled, mut round) = (0, 0_u64);
    while cancelled < CANCELLED {
        let consumer = tokio::spawn({
            let (pool, book) = (pool.clone(), Arc::clone(&book));
            async move { consume(&pool, &book).await }
        });
        // Cancelled anywhere from before the lease to after the acknowledgement: half of them find
        // a job, early or late.
        let pause = Duration::from_micros(round * 7919 % 3000);
        if round % 4 == 0 {
            produce(&mut keeper, &mut produced).await;
        }
        tokio::time::sleep(pause).await;
        if round % 4 == 2 {
            produce(&mut keeper, &mut produced).await;
        }
        consumer.abort();
        if consumer.await.is_err() {
            cancelled += 1;
        }
        if round % 50 == 49 {
            recovered += recover(&mut keeper).await;
        }
        round += 1;
    }
    // No command of a cancelled consumer blocks on.
    eventually("no command of a cancelled consumer blocks", async || {
        let info = text(&call(&mut keeper, Command::new("INFO").arg("clients")).await);
        info.lines().any(|line| line.trim_end() == "blocked_clients:0")
    })
    .await;
    recovered += recover(&mut keeper).await;
    drop(keeper);
    let rest = async {
        while book.lock().received.len() < usize::try_from(produced).expect("small") {
            consume(&pool, &book).await;
        }
    };
    tokio::time::timeout(LONG, rest).await.expect("every job is still there");
    stop.store(true, SeqCst);
    let beside = beside.await.expect("reader");

    let book = book.lock();
    let lost = (0..produced).filter(|job| !book.received.contains_key(&job.to_string()));
    let lost = lost.count();
    let doubled = book.acknowledged.values().filter(|times| **times > 1).count();
    let again: u32 = book.received.values().map(|times| times - 1).sum();
    println!(
        "{round} consumers, {cancelled} cancelled under way: {produced} jobs, {lost} lost, \
         {doubled} acknowledged twice, {again} delivered again of {recovered} put back; shared GET \
         p99 {:?} alone ({} reads), {:?} beside ({} reads)",
        p99(&alone),
        alone.len(),
        p99(&beside),
        beside.len()
    );
    assert_eq!((lost, doubled, book.received_after_ack), (0, 0, 0));
    assert!(u64::from(again) <= recovered, "{again} delivered again, {recovered} put back");
    let limit = p99(&alone) * 20 + Duration::from_millis(100);
    assert!(p99(&beside) < limit, "{:?} beside, {:?} alone", p99(&beside), p99(&alone));
}

async fn produce(lease: &mut DedicatedRedis, produced: &mut u32) {
    call(lease, Command::new("RPUSH").key("jobs").arg(produced.to_string())).await;
    *produced += 1;
}
