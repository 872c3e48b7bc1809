//! Acceptance: what a load of counting and reading commands sees of six kinds of outage.
//!
//! Every test counts with a script that may not run twice, and compares what its callers were told
//! with what the server counted: the counter is what succeeded and a part of what is unknown, never
//! more.

#![expect(clippy::print_stdout, reason = "the figures of a test are for whoever reads its output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use forebay_config::RedisConfig;
use forebay_redis::{Command, RedisError, RedisPool, Reply, Script, ScriptCall};
use forebay_testkit::{PrivateRedis, redis_config};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::proxy::Proxy;
use crate::{eventually, text};

/// Time from the instant at which the server can be reached to the first answer: the acceptance
/// limit.
const RECOVERY_MAX: Duration = Duration::from_secs(2);
/// Workers that count, and as many that read: more than the offline queue takes.
const WORKERS: usize = 32;
/// Counts that begin and succeed one after the other before and after an outage.
const STEADY: usize = 100;
const OFFLINE_MAX: usize = 20;
const OFFLINE_BYTES_MAX: usize = 2000;
/// What the process may grow by during a test: the queues hold less than a hundredth of it.
const GROWTH_MAX_KIB: u64 = 64 * 1024;

/// The waits of the product's defaults; a small offline queue.
fn config(url: &str) -> RedisConfig {
    RedisConfig {
        connect_timeout: Duration::from_secs(10),
        backoff_max: Duration::from_secs(3),
        offline_queue_max: OFFLINE_MAX,
        offline_queue_bytes_max: OFFLINE_BYTES_MAX,
        ..redis_config(url, "")
    }
}

/// What workers were told.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    counted: u64,
    unknown: u64,
    not_executed: u64,
    reads: u64,
    failed_reads: u64,
}

/// The highest values seen while the load ran.
#[derive(Debug, Default, Clone, Copy)]
struct Peaks {
    samples: u64,
    offline: usize,
    offline_bytes: usize,
    in_flight: usize,
}

struct Load {
    pool: RedisPool,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
    sampler: JoinHandle<Peaks>,
    /// When the latest successful count was begun.
    begun: watch::Receiver<Instant>,
    memory_before: u64,
}

impl Load {
    async fn start(config: &RedisConfig) -> Self {
        let pool = RedisPool::new(config).expect("settings");
        pool.ready().await.expect("ready");
        let stop = Arc::new(AtomicBool::new(false));
        let (report, begun) = watch::channel(Instant::now());
        let report = Arc::new(report);
        let count = |_| tokio::spawn(count(pool.clone(), Arc::clone(&stop), Arc::clone(&report)));
        let mut workers: Vec<_> = (0..WORKERS).map(count).collect();
        workers.extend((0..WORKERS).map(|_| tokio::spawn(read(pool.clone(), Arc::clone(&stop)))));
        let sampler = tokio::spawn(sample(pool.clone(), Arc::clone(&stop)));
        let mut load = Self { pool, stop, workers, sampler, begun, memory_before: 0 };
        load.run_steadily().await;
        load.memory_before = resident_kib();
        load
    }

    /// Time from `instant` until a count that was begun after it has succeeded.
    async fn succeeds_after(&mut self, instant: Instant) -> Duration {
        let wait = self.begun.wait_for(|begun| *begun > instant);
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.expect("it works again").expect("workers run");
        instant.elapsed()
    }

    /// Lets the load run for a while, measured in what it does.
    async fn run_steadily(&mut self) {
        for _ in 0..STEADY {
            self.succeeds_after(Instant::now()).await;
        }
    }

    /// Ends the load and compares the tally with the counter.
    async fn finish(mut self, outage: &str, recovery: Duration) {
        self.run_steadily().await;
        self.stop.store(true, SeqCst);
        let mut sum = Tally::default();
        for worker in self.workers {
            let tally = worker.await.expect("worker");
            sum.counted += tally.counted;
            sum.unknown += tally.unknown;
            sum.not_executed += tally.not_executed;
            sum.reads += tally.reads;
            sum.failed_reads += tally.failed_reads;
        }
        let peaks = self.sampler.await.expect("sampler");
        let grown = resident_kib().saturating_sub(self.memory_before);
        let shared = self.pool.shared();
        let counter = shared.get("n").await.expect("get").expect("counted");
        let counter: u64 = String::from_utf8_lossy(&counter).parse().expect("a number");
        let stats = self.pool.stats();
        println!(
            "{outage}: recovery {} ms, counter {counter}, {sum:?}, {peaks:?}, reconnects {}, \
             retries {}, shed {}, grown {grown} KiB",
            recovery.as_millis(),
            stats.reconnects,
            stats.retries,
            stats.shed
        );
        assert!(
            (sum.counted..=sum.counted + sum.unknown).contains(&counter),
            "{counter} counted, of which {} confirmed and {} unknown",
            sum.counted,
            sum.unknown
        );
        assert!(recovery < RECOVERY_MAX, "recovered after {recovery:?}");
        assert!(peaks.offline <= OFFLINE_MAX && peaks.offline_bytes <= OFFLINE_BYTES_MAX);
        assert!(peaks.in_flight <= stats.command_queue_max, "{peaks:?}");
        assert!(grown < GROWTH_MAX_KIB, "{grown} KiB more");
        let after = (stats.offline_queue_length, stats.offline_queue_bytes, stats.waiting);
        assert_eq!(after, (0, 0, 0), "nothing waits when nobody asks");
    }
}

async fn count(
    pool: RedisPool,
    stop: Arc<AtomicBool>,
    report: Arc<watch::Sender<Instant>>,
) -> Tally {
    let script = Script::new("increment", "return redis.call('INCR', KEYS[1])");
    let call = ScriptCall::new().key("n");
    let shared = pool.shared();
    let mut tally = Tally::default();
    while !stop.load(SeqCst) {
        let begun = Instant::now();
        match shared.eval(&script, &call).await {
            Ok(_) => {
                tally.counted += 1;
                report.send_replace(begun);
            }
            Err(RedisError::UnknownOutcome { .. }) => tally.unknown += 1,
            Err(error) => {
                assert!(error.is_unavailable(), "{error:?}");
                tally.not_executed += 1;
                // A caller that is told at once must not become a busy loop.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    tally
}

async fn read(pool: RedisPool, stop: Arc<AtomicBool>) -> Tally {
    let shared = pool.shared();
    let mut tally = Tally::default();
    while !stop.load(SeqCst) {
        match shared.get("n").await {
            Ok(_) => tally.reads += 1,
            Err(error) => {
                assert!(error.is_unavailable(), "{error:?}");
                tally.failed_reads += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    tally
}

async fn sample(pool: RedisPool, stop: Arc<AtomicBool>) -> Peaks {
    let mut peaks = Peaks::default();
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    while !stop.load(SeqCst) {
        ticks.tick().await;
        let stats = pool.stats();
        peaks.samples += 1;
        peaks.offline = peaks.offline.max(stats.offline_queue_length);
        peaks.offline_bytes = peaks.offline_bytes.max(stats.offline_queue_bytes);
        peaks.in_flight = peaks.in_flight.max(stats.command_queue_length);
    }
    peaks
}

/// Memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// Fails when a lane waits for an answer of a silent server for ever, or when what waits meanwhile
/// is not bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_for_five_seconds() {
    let server = PrivateRedis::start();
    let mut load = Load::start(&config(&server.url())).await;
    server.stop();
    // The fault itself has this length; nothing is waited for.
    let hangs = tokio::time::sleep(Duration::from_secs(5));
    hangs.await;
    server.cont();
    let recovery = load.succeeds_after(Instant::now()).await;
    load.finish("hang of 5 s", recovery).await;
}

/// Fails when nobody asks a silent connection for a sign of life: its callers time out for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_a_router_forgot() {
    let server = PrivateRedis::start();
    let proxy = Proxy::start(server.port()).await;
    let mut load = Load::start(&config(&proxy.url())).await;
    proxy.black_hole();
    // New connections work from now on.
    let recovery = load.succeeds_after(Instant::now()).await;
    assert!(load.pool.stats().reconnects >= 1);
    load.finish("black hole", recovery).await;
}

/// The server counts and nobody hears of it. Fails when a counting command is sent again because its
/// answer did not come: the counter is then above what anybody was told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_never_arrive() {
    let server = PrivateRedis::start();
    let proxy = Proxy::start(server.port()).await;
    let mut load = Load::start(&config(&proxy.url())).await;
    proxy.swallow_answers();
    let recovery = load.succeeds_after(Instant::now()).await;
    load.finish("swallowed answers", recovery).await;
}

/// A silent connection without traffic dead before anybody needs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_that_a_router_forgot() {
    let server = PrivateRedis::start();
    let proxy = Proxy::start(server.port()).await;
    let pool = RedisPool::new(&config(&proxy.url())).expect("settings");
    pool.ready().await.expect("ready");
    proxy.black_hole();
    let forgotten = Instant::now();
    eventually("the idle lane is replaced", async || {
        let stats = pool.stats();
        stats.reconnects >= 1 && stats.status == "ready"
    })
    .await;
    println!("idle black hole: replaced after {} ms", forgotten.elapsed().as_millis());
    let asked = Instant::now();
    pool.shared().get("n").await.expect("get");
    assert!(asked.elapsed() < RECOVERY_MAX, "{:?}", asked.elapsed());
}

/// Fails when what was answered is lost on the way to the caller, and when the lanes do not come
/// back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_load() {
    // What was answered survives the kill.
    let durable = [("appendonly", "yes"), ("appendfsync", "always")];
    let mut server = PrivateRedis::start_with(&durable);
    let mut load = Load::start(&config(&server.url())).await;
    server.kill();
    server.restart();
    let recovery = load.succeeds_after(Instant::now()).await;
    load.finish("restart", recovery).await;
}

/// Fails when the lanes stay with a server that became a replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over() {
    let (old, new) = (PrivateRedis::start(), PrivateRedis::start());
    let (old_admin, new_admin) = (admin(&old), admin(&new));
    let port = |server: &PrivateRedis| server.port().to_string();
    run(&new_admin, Command::new("REPLICAOF").arg("127.0.0.1").arg(port(&old))).await;
    eventually("the replica is in step", async || {
        let info = run(&old_admin, Command::new("INFO").arg("replication")).await;
        text(&info).contains("state=online")
    })
    .await;
    let proxy = Proxy::start(old.port()).await;
    let mut load = Load::start(&config(&proxy.url())).await;
    // Writes stop, the replica catches up, and the two change roles.
    let to = Command::new("FAILOVER").arg("TO").arg("127.0.0.1").arg(port(&new));
    run(&old_admin, to).await;
    eventually("the old one is a replica", async || {
        let info = run(&old_admin, Command::new("INFO").arg("replication")).await;
        text(&info).contains("role:slave")
    })
    .await;
    // The address still leads to the old one, which refuses: the lanes find out by themselves.
    eventually("the lanes leave it", async || !load.pool.stats().connected).await;
    proxy.lead_to(new.port());
    let recovery = load.succeeds_after(Instant::now()).await;
    load.finish("promotion", recovery).await;
}

fn admin(server: &PrivateRedis) -> RedisPool {
    RedisPool::new(&redis_config(&server.url(), "")).expect("settings")
}

async fn run(pool: &RedisPool, command: Command) -> Reply {
    let mut lease = pool.dedicated().await.expect("lease");
    lease.call(&command, Duration::from_secs(10)).await.expect("command")
}
