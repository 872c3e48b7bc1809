//! `cargo xtask chaos`: a running system under faults, for as long as one likes.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use lexopt::prelude::*;

use crate::workspace::Workspace;
use crate::{say, testing};

const USAGE: &str = "usage: cargo xtask chaos cache [--minutes N]
Three replicas of token-server on a Postgres and a Redis of their own, behind proxies that delay,
cut and swallow: every read is judged by what had been written. Goes through its faults once, or
again and again for N minutes (up to 1440), and prints operations, faults, and each violation with
the history of its row. `cargo xtask test` goes through them once.";

/// What the test reads; `crates/e2e/tests/history` says what it does.
const SECONDS: &str = "FOREBAY_CHAOS_SECONDS";
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
    let test = ["-p", "forebay-e2e", "--test", "history", "--", "--nocapture", "every_read"];
    let env = vec![(SECONDS, OsString::from((minutes * 60).to_string()))];
    testing::run_with(test.map(OsString::from).to_vec(), env, workspace)
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
