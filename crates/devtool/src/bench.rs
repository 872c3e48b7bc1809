//! `cargo xtask bench`: us and the peers, interleaved in one run.

use std::ffi::OsString;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use forebay_postgres::maintenance::Maintenance;
use forebay_provision::guard;
use forebay_seed::Existing;
use lexopt::prelude::*;

use self::report::Line;
use self::stalls::Stalls;
use crate::ephemeral::{Backends, Dir};
use crate::workspace::Workspace;
use crate::{cargo, say, stdout};

mod page;
mod report;
mod stalls;

const USAGE: &str = "usage: cargo xtask bench [NAME..] [--json] [-- ARGUMENT..]
Runs the benches that are named, or all: grpc, pools, cache, cache-races.
Us and the peers run in turn, on a Postgres and a Redis of their own; each bench replaces its
section of docs/benchmarks.md. With --json one object a line goes to the standard output and no
file is written. What follows -- is for the program of the bench, such as the scenarios to run:
then no file is written either, since that is a part of a section.";

/// A program in `crates/bench`.
#[derive(Debug, Clone, Copy)]
struct Bench {
    name: &'static str,
    /// How long it runs, for people.
    takes: &'static str,
    /// The programs of `crates/bench` that it needs, its own first.
    programs: &'static [&'static str],
    /// Package of ours that it starts.
    starts: Option<&'static str>,
    /// What it compares, for the page.
    about: &'static str,
}

const BENCHES: [Bench; 4] = [
    Bench {
        name: "grpc",
        takes: "about a minute",
        programs: &["grpc", "bare-tonic"],
        starts: Some("forebay-token-server"),
        about: "\
GetToken answered from L1 by token-server, and by a bare tonic service that returns the same
bytes. 7 rounds of 2 s a side.",
    },
    Bench {
        name: "pools",
        takes: "about 6 minutes",
        programs: &["pools"],
        starts: None,
        about: "\
Connection pools, 5 rounds of 1 s a side. Postgres: one row of 100,000 by its primary key, 8
connections a side. Redis: a value of 100 bytes under one of 1,000 keys. A task asks again when
it has its answer. A wait is the time from the call to the answer; the longest is the median of
the rounds' longest. The least-served task is given as its answers / the mean. Peers have their
default settings but for the number of connections. pgbench and redis-benchmark are programs of
their own and no connection pools: pgbench has a client a task, up to 8; redis-benchmark as many
commands in flight as there are tasks. ioredis needs Node.

A longest wait is not always a side's own: above the figures Postgres says for how many statements it
needed 20 ms or more itself, and a lookup by key is work of microseconds. A likely reason is that Linux
schedules each backend as a group of its own if `kernel.sched_autogroup_enabled` is 1, so that on few
processors one of them may come late; that was seen in single runs and is not proven.",
    },
    Bench {
        name: "cache",
        takes: "about 6 minutes",
        programs: &["cache", "cache-allocations"],
        starts: None,
        about: "\
The two-level cache, and those of others on the same Redis and the same table of Postgres, read by
one loader. The record is about 300 B as protobuf. Ours has its default settings. amalgam-cache has
Redis as L2, backplane and locker, as its Redis example has it, and JSON; strict is its profile for
coherence. multi-tier-cache has moka, Redis, JSON and invalidation by Pub/Sub. hitbox has a cached
function with concurrency 1 over moka and Redis, both with bincode, and L2 refills L1; it has no bus,
so another replica hears of no write. bentocache has memory, Redis and a bus over Pub/Sub, in a
process of Node that its reads and loads are sent to; where microseconds count it runs the loop and
takes the times itself, and in scenarios that its one thread or the way there would decide it is left
out. Every side is told of a write after its commit, as its documentation says.

Statements are those of the loader; ours checks one hit in a thousand with one, too. Redis commands
and round trips are counted on the wire, by a proxy. A round trip begins on a connection with what is
sent after an answer came: what is on its way together shares it, so that a pipeline is one. What a
side sends in the background is counted, too. Reads that fail are in their own column.

- *L1 hit*: of 1,000 keys, 5 rounds of 150 ms a side; moka alone is the floor.
- *L2 hit*, and *get_many again and again*: a side's memory holds 200 of 20,000 keys. What no cache can
  beat there is reading the same entries of Redis and not looking at them, on one lane of our
  connection pool and on one connection of the driver.
- *get_many* by where the keys are: each batch is new, so that half of it can be in L1; 5 rounds of 10.
  Those in L1 are read 20 times. Peers without a batch read are asked for all keys of it at once.
- *A write, seen on 2 other replicas*: 100 writes a round; from the commit until both have answered with
  it. Each is asked, rests for 0.2 ms, and is asked again: one that asks all the time takes a processor
  from the stores, and what is seen then is mostly the scheduler.
- *Distinct misses at once*: 3 bursts; for the goals the worst counts.
- *A replica starts* while L2 holds all 20,000 keys, and 16 tasks read 2,000 times by Zipf's law; 5
  starts. Ours loads the keys that are read most before it says that it serves, unless
  `cache.warm_up_keys` is 0.
- *zipf(0.99)*: three replicas are three caches in one process with connections of their own. The
  memory of each holds 50,000 of 1,000,000 keys, and the 20,000 most wanted are in L2 at the start. All
  sides have the same rows, but each its most wanted keys elsewhere among them. 10 s a side in 5 rounds,
  after one that does not count; the first rounds of those that count are colder than the last.
  `cargo xtask bench cache -- zipf --seconds 60` takes longer.
- *Redis resets, is late, answers nothing*: 10 readers ask for keys that only L2 has, each once, and one
  for keys in L1, 2,000 times a second together at most. L2 is used again with the first of five
  reads of such keys in a row that no statement answered; 5,000 ms is not at all.",
    },
    Bench {
        name: "cache-races",
        takes: "about 3 minutes",
        programs: &["cache-races"],
        starts: None,
        about: "\
The races in which caches are known to go stale, hang or fall over, with the sides and the settings
of the bench `cache`, on a real Redis and a real Postgres. bentocache has memory, Redis and a bus
over Redis Pub/Sub, with its default settings; each replica of it is a process of Node, and its
loads come back to the loader that all sides use. Every side is told of a write after its commit, as
its documentation says, except where the writer is killed. What a side fails at is in bold.

A race is lost by a key that some replica still answers with an old version 1.5 s after the write;
our bound is 1 s. A read that takes longer than 8 s has hung. In the stampede three replicas have
2,000 readers each, and the first reader is cancelled; bentocache cannot cancel a read. It is to
take 2 statements at most. The load is held for half a second, ten times as long as ours waits before
another process may load as well (`cache.lease_wait`), so ours takes one for each process. A burst of
1,000 distinct misses is to take 8 statements and 8 round trips at most. One of these begins on a
connection with what is sent after an answer came: what is on its way together shares it.
While Redis is stopped ten readers ask for cold keys and one for hot ones, 2,000 times a second
together at most.",
    },
];

/// What came of one bench.
struct Run {
    bench: Bench,
    lines: Vec<Line>,
    stalls: Stalls,
}

struct Request {
    benches: Vec<Bench>,
    /// For the programs of the benches.
    arguments: Vec<OsString>,
    json: bool,
    help: bool,
}

/// Runs the benches.
///
/// # Errors
///
/// When something cannot be built or started, or a bench fails. A missed goal is no error: it is
/// in the report.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let request = parse(args).context(USAGE)?;
    if request.help {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    build(workspace, &request.benches)?;
    guard::install(&cargo::own_program()?).context("start the guard")?;
    let dir = Dir::create()?;
    let backends = Backends::start(dir.path())?;
    prepare(&backends.postgres_url())?;
    let mut runs = Vec::new();
    for bench in request.benches {
        let log = backends.postgres_log();
        let logged = std::fs::metadata(&log).map_or(0, |file| file.len());
        let lines = run_one(&bench, workspace, &backends, &request.arguments, request.json)?;
        let stalls = Stalls::logged(&log, logged)?;
        say::warn(&format!("bench: {}", stalls.sentence()));
        if !request.json {
            runs.push(Run { bench, lines, stalls });
        }
        if !request.json && request.arguments.is_empty() {
            // At once: a bench that fails later does not take the others' figures along.
            let file = workspace.root.join("docs/benchmarks.md");
            page::update(&file, &machine(&backends), &runs)?;
        }
    }
    backends.stop();
    guard::close();
    for run in &runs {
        stdout::write(&report::tables(&run.lines))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Request> {
    let mut request =
        Request { benches: Vec::new(), arguments: Vec::new(), json: false, help: false };
    let mut args = args.into_iter();
    let own: Vec<_> = args.by_ref().take_while(|argument| argument != "--").collect();
    request.arguments.extend(args);
    let mut parser = lexopt::Parser::from_args(own);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => request.json = true,
            Long("help") | Short('h') => request.help = true,
            Value(name) => {
                let known = BENCHES.into_iter().find(|known| name == *known.name);
                request.benches.push(known.with_context(|| format!("no bench {name:?}"))?);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if request.benches.is_empty() {
        request.benches.extend(BENCHES);
    }
    Ok(request)
}

/// All sides in release mode: a debug build measures the compiler.
fn build(workspace: &Workspace, benches: &[Bench]) -> anyhow::Result<()> {
    say::warn("bench: build all sides in release mode, minutes the first time");
    let mut peers =
        vec!["build", "--release", "--locked", "--manifest-path", "crates/bench/Cargo.toml"];
    for program in benches.iter().flat_map(|bench| bench.programs) {
        peers.extend(["--bin", program]);
    }
    let mut builds = vec![peers];
    for package in benches.iter().filter_map(|bench| bench.starts) {
        builds.push(vec!["build", "--release", "--package", package]);
    }
    for args in builds {
        let status = cargo::command(workspace).args(&args).status().context("start cargo")?;
        ensure!(status.success(), "cargo {} failed: {status}", args.join(" "));
    }
    Ok(())
}

fn prepare(url: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        forebay_postgres::migrate::run(url).await.context("migrate")?;
        forebay_seed::seed(url, Existing::Keep, |_| {}).await.context("seed")?;
        let admin = Maintenance::connect(url).await.context("connect")?;
        admin.client().batch_execute(stalls::LOG_THEM).await.context("have stalls logged")?;
        admin.close().await;
        Ok(())
    })
}

/// Where the figures come from.
fn machine(backends: &Backends) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{processors} processors, {}, Postgres {}, {}",
        std::env::consts::ARCH,
        backends.postgres_tools().version,
        backends.redis_tools().version
    )
}

fn run_one(
    bench: &Bench,
    workspace: &Workspace,
    backends: &Backends,
    arguments: &[OsString],
    json: bool,
) -> anyhow::Result<Vec<Line>> {
    let Bench { name, takes, .. } = bench;
    say::warn(&format!("bench: {name}, {takes}"));
    let target = cargo::bin_dir()?;
    let target = target.parent().context("programs are built into target/<profile>")?;
    let output = Command::new(workspace.root.join("crates/bench/target/release").join(name))
        .args(arguments)
        .env("FOREBAY_BENCH_BIN_DIR", target.join("release"))
        .env("DATABASE_URL", backends.postgres_url())
        .env("REDIS_URL", backends.redis_url())
        .envs(backends.load_generators()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start the bench {name}"))?;
    if !output.status.success() {
        bail!("the bench {name} failed: {}", output.status);
    }
    let lines = String::from_utf8(output.stdout).context("a bench prints UTF-8")?;
    if json {
        stdout::write(&lines)?;
    }
    let lines: Vec<Line> = lines.lines().map(report::parse).collect::<anyhow::Result<_>>()?;
    if let Some(stray) = lines.iter().find(|line| line.bench() != *name) {
        bail!("the bench {name} printed {stray:?}");
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benches_are_named_or_all_are_run() {
        let names = |args: &[&str]| {
            let request = parse(args.iter().map(OsString::from).collect()).ok()?;
            Some(request.benches.into_iter().map(|bench| bench.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]), Some(vec!["grpc", "pools", "cache", "cache-races"]));
        assert_eq!(names(&["--json", "pools"]), Some(vec!["pools"]));
        assert_eq!(names(&["nonsense"]), None);
        assert_eq!(names(&["cache", "--", "zipf", "--seconds"]), Some(vec!["cache"]));
    }
}
