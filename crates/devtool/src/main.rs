//! What `cargo xtask` runs: the one-command environment, tests and checks.
#![expect(
    clippy::print_stderr,
    reason = "a command-line tool answers on its terminal"
)]

use std::process::ExitCode;

use anyhow::bail;

use crate::workspace::Workspace;

mod stdout;
mod tidy;
mod trace;
mod workspace;

fn main() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<_> = args.collect();
    let workspace = Workspace::find()?;
    match command.to_str() {
        Some("tidy") => tidy::run(rest, &workspace),
        Some("trace") => trace::run(rest, &workspace),
        _ => bail!("unknown command {}", command.display()),
    }
}
