//! The smallest process: it does what its standard input tells it, one line at a time.
//!
//! The tests of this crate drive it; `ready NAME`, `degrade NAME REASON`, `span NAME`,
//! `finish`, `fail`, `panic` and `block` are its lines.

use std::process::ExitCode;

use anyhow::Context;
use forebay_boot::Process;
use forebay_config::Config;
use tokio::sync::mpsc;

fn main() -> ExitCode {
    // A variable of its own, because the flags are those of every service.
    match std::env::var_os("TINY_JOB") {
        Some(_) => forebay_boot::run_job("tiny", serve),
        None => forebay_boot::run("tiny", serve),
    }
}

async fn serve(_config: Config, process: Process) -> anyhow::Result<()> {
    let store = process.readiness.component("store");
    let cache = process.readiness.optional_component("cache");
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let (name, reason) = rest.split_once(' ').unwrap_or((rest, ""));
        let component = if name == "cache" { &cache } else { &store };
        match command {
            "ready" => component.set_ready(),
            "degrade" => component.set_degraded(reason),
            "span" => tracing::info_span!("tiny.work", otel.name = rest).in_scope(|| {}),
            "fail" => {
                let cause = std::io::Error::other("root cause");
                return Err(cause).context("reach the store").context("serve");
            }
            "panic" => panic!("told to"),
            // A thread that never comes back, as a deadlock would be.
            "block" => loop {
                std::thread::park();
            },
            "finish" => return Ok(()),
            _ => anyhow::bail!("unknown line {line:?}"),
        }
        tracing::info!(line, "did");
    }
    process.shutdown.fired().await;
    Ok(())
}

/// The lines of standard input, read on a thread that nobody waits for: the runtime
/// would wait for its own until the next line came.
fn lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(16);
    std::thread::spawn(move || {
        let read = std::io::stdin().lines().map_while(Result::ok);
        // The receiver is gone when the process ends.
        for line in read {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
