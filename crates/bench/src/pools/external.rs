//! Peers that are programs of their own: pgbench and redis-benchmark.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::process::Command;

use crate::pools::CONNECTIONS;
use crate::side::{Figures, Side, Waits};

/// How long a program may take beyond the time it was asked to run.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program.
#[derive(Debug, Clone)]
pub struct Tool(PathBuf);

impl Tool {
    /// The program whose path the variable `name` holds.
    ///
    /// # Errors
    /// Why there is none, for the report.
    pub fn from_env(name: &str) -> Result<Self, String> {
        let program = std::env::var_os(name).ok_or("it came with no server and is not on PATH")?;
        Ok(Self(program.into()))
    }

    /// What the program prints.
    async fn run(&self, args: &[String], duration: Duration) -> anyhow::Result<String> {
        let program = self.0.display();
        let output =
            Command::new(&self.0).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
        let output = tokio::time::timeout(duration + PATIENCE, output)
            .await
            .with_context(|| format!("{program} did not end"))?
            .with_context(|| format!("start {program}"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}", output.status, said.trim());
        }
        String::from_utf8(output.stdout).context("a program prints UTF-8")
    }

    /// Name and version, such as `pgbench 15.18`.
    async fn name(&self, name: &str) -> anyhow::Result<String> {
        let line = self.run(&["--version".to_owned()], Duration::ZERO).await?;
        let version = line.split_whitespace().find(|word| word.starts_with(char::is_numeric));
        Ok(format!("{name} {}", version.with_context(|| format!("no version in {line:?}"))?))
    }
}

/// `pgbench -S -M prepared`, with a client a task up to the number of connections. It tells how
/// many transactions it ran, and no waits.
///
/// # Errors
/// When the program cannot be started.
pub async fn pgbench(tool: Tool, url: &str) -> anyhow::Result<Side> {
    let name = tool.name("pgbench").await?;
    let (tool, url) = (Arc::new(tool), url.to_owned());
    Ok(Side::new(format!("{name} -S -M prepared"), move |tasks, duration| {
        let (tool, url) = (Arc::clone(&tool), url.clone());
        Box::pin(async move {
            let clients = u32::try_from(tasks)?.min(CONNECTIONS).to_string();
            let seconds = duration.as_secs().max(1).to_string();
            let args = ["-n", "-S", "-M", "prepared", "-c", &clients, "-T", &seconds, &url];
            let printed = tool.run(&args.map(str::to_owned), duration).await?;
            let throughput = transactions_per_second(&printed)
                .with_context(|| format!("no figure in {printed:?}"))?;
            Ok(Figures { throughput, ..Figures::default() })
        })
    }))
}

/// Reads `tps = 50651.3 (without initial connection time)`.
fn transactions_per_second(printed: &str) -> Option<f64> {
    let line = printed.lines().find_map(|line| line.strip_prefix("tps = "))?;
    line.split_whitespace().next()?.parse().ok()
}

/// redis-benchmark with `pipeline` commands in flight on each connection, and as many in flight
/// together as there are tasks.
///
/// # Errors
/// When the program cannot be started, or the address is none.
pub async fn redis_benchmark(
    tool: Tool,
    url: &str,
    keys: u32,
    pipeline: usize,
) -> anyhow::Result<Side> {
    let address = url.strip_prefix("redis://").context("the address is no redis:// URL")?;
    let (host, port) = address.trim_end_matches('/').rsplit_once(':').context("no port")?;
    let fixed = ["-h", host, "-p", port, "--csv", "-P", &pipeline.to_string(), "-r"];
    let mut fixed: Vec<String> = fixed.map(str::to_owned).to_vec();
    fixed.push(keys.to_string());
    let name = format!("{} -P {pipeline}", tool.name("redis-benchmark").await?);
    let tool = Arc::new(tool);
    // It is told a number of requests, not a time: the rate of the last round gives the next one.
    let rate = Arc::new(AtomicU64::new(10_000));
    let side = Side::new(name, move |tasks, duration| {
        let (tool, rate, mut args) = (Arc::clone(&tool), Arc::clone(&rate), fixed.clone());
        Box::pin(async move {
            let expected = rate.load(Ordering::Relaxed) as f64;
            let requests = (expected * duration.as_secs_f64()).clamp(1e3, 1e7).round();
            args.extend(["-c".to_owned(), (tasks / pipeline).max(1).to_string()]);
            args.extend(["-n".to_owned(), requests.to_string()]);
            args.extend(["GET", "key:__rand_int__"].map(str::to_owned));
            let printed = tool.run(&args, duration).await?;
            let figures =
                read_csv(&printed).with_context(|| format!("no figures in {printed:?}"))?;
            ensure!(figures.throughput > 0.0, "no throughput in {printed:?}");
            rate.store(figures.throughput as u64, Ordering::Relaxed);
            Ok(figures)
        })
    });
    Ok(side.with_tasks_min(pipeline))
}

/// Reads the last line: test, rate, then mean, least, p50, p95, p99 and longest in milliseconds,
/// which came with Redis 6.2.
fn read_csv(printed: &str) -> Option<Figures> {
    let line = printed.lines().last()?.trim().trim_matches('"');
    let fields: Vec<&str> = line.split("\",\"").collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let waits = || {
        Some(Waits {
            p50_us: number(4)? * 1e3,
            p99_us: number(6)? * 1e3,
            p999_us: None,
            max_us: number(7)? * 1e3,
        })
    };
    Some(Figures { throughput: number(1)?, waits: waits(), least_share: None })
}

#[cfg(test)]
mod tests {
    use super::{read_csv, transactions_per_second};

    #[test]
    fn what_the_programs_print_is_read() {
        let printed = "latency average = 0.2 ms\ntps = 50651.3 (without initial connection time)\n";
        assert_eq!(transactions_per_second(printed), Some(50651.3));
        assert_eq!(transactions_per_second("tps"), None);

        let header = r#""test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms""#;
        let line = r#""GET key:__rand_int__","55000.00","0.5","0.1","0.4","0.7","0.9","2.5""#;
        let figures = read_csv(&format!("{header}\n{line}\n")).unwrap();
        assert_eq!(figures.throughput, 55000.0);
        assert_eq!(figures.waits.map(|waits| (waits.p99_us, waits.max_us)), Some((900.0, 2500.0)));
        let old = read_csv("\"GET\",\"55000.00\"\n").unwrap();
        assert!(old.waits.is_none() && old.throughput == 55000.0);
        assert!(read_csv("nothing").is_none());
    }
}
