//! `cargo xtask chaos`: a running system under faults, for as long as one likes.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use lexopt::prelude::*;

use crate::workspace::Workspace;
use crate::{cargo, say, testing};

const USAGE: &str = "usage: cargo xtask chaos cache [--minutes N]
Three replicas of token-server on a Postgres and a Redis of their own, behind proxies that delay,
cut and swallow: every read is judged by what had been written. Goes through its faults once, or
again and again for N minutes (up to 1440), and prints operations, faults, and each violation with
the history of its row. All of it is built with optimisation: ten million reads take less than half
an hour on two processors. `cargo xtask test` goes through the faults once.";

/// How it is built; the root manifest says why so.
const PROFILE: &str = "chaos";
/// What is built in one go, so that what test and service have in common is built once.
const WHAT: [&str; 8] = [
    "--profile",
    PROFILE,
    "--package",
    "forebay-e2e",
    "--package",
    "forebay-token-server",
    "--test",
    "history",
];
/// What the test reads; `crates/e2e/tests/history` says what it does.
pub(crate) const SECONDS: &str = "FOREBAY_CHAOS_SECONDS";
const MINUTES: std::ops::RangeInclusive<u64> = 0..=1440;

/// Runs the faults.
///
/// # Errors
///
/// When the arguments are wrong or the servers cannot be provided. A violation is not an error but
/// an exit code.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let Some(minutes) = parse(args)? else {
        say::line(USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let target = cargo::bin_dir()?;
    let target = target.parent().context("programs are built into a folder of the target")?;
    let programs = target.join(PROFILE).into_os_string();
    let seconds = OsString::from((minutes * 60).to_string());
    let env = vec![(SECONDS, seconds), ("FOREBAY_TEST_BIN_DIR", programs)];
    let of_tests = ["--", "--nocapture", "every_read"];
    let test: Vec<_> = WHAT.iter().chain(&of_tests).map(OsString::from).collect();
    let build = ["build", "--bin", "forebay-token-server"];
    let build = build.iter().chain(&WHAT).map(OsString::from).collect();
    testing::run_built(build, test, env, workspace)
}

fn parse(args: Vec<OsString>) -> anyhow::Result<Option<u64>> {
    let (mut what, mut minutes) = (None, 0);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next().context(USAGE)? {
        match arg {
            Value(word) if what.is_none() => what = Some(word.string().context(USAGE)?),
            Long("minutes") => minutes = parser.value()?.parse().context(USAGE)?,
            Long("help") | Short('h') => return Ok(None),
            other => bail!("{}\n{USAGE}", other.unexpected()),
        }
    }
    ensure!(what.as_deref() == Some("cache"), "{USAGE}");
    ensure!(MINUTES.contains(&minutes), "--minutes takes 0 to 1440");
    Ok(Some(minutes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked() {
        let minutes = |args: &[&str]| parse(args.iter().map(OsString::from).collect());
        assert_eq!(minutes(&["cache"]).unwrap(), Some(0));
        assert_eq!(minutes(&["cache", "--minutes", "5"]).unwrap(), Some(5));
        assert_eq!(minutes(&["--help"]).unwrap(), None);
        for bad in [&[][..], &["nosuch"], &["cache", "twice"], &["cache", "--minutes", "1441"]] {
            assert!(minutes(bad).is_err(), "{bad:?}");
        }
    }
}
