//! Building a program of tests, and running one test of it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_provision::{Output, Process, StopSignal};
use parking_lot::Mutex;
use serde_json::Value;

use super::proof::{Book, Proof, Target};
use super::scratch::Scratch;

/// A build that takes longer waits for something that will not come.
const BUILD_BOUND: Duration = Duration::from_secs(3600);

/// Lines of a program that are kept, the last ones: a failing test speaks at its end.
const LINES_MAX: usize = 4000;

/// What came of a build.
pub(super) enum Built {
    /// The program of the tests.
    Program(PathBuf),
    /// The first error of the compiler.
    Error(String),
}

/// What came of one test.
pub(super) struct Ran {
    pub(super) end: End,
    pub(super) lines: Vec<String>,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Passed,
    Failed,
    /// Not within its bound; it was killed.
    Hung,
    /// The program holds no such test.
    Missing,
}

/// Builds the program that holds the test of a proof, and the programs that the test starts.
///
/// # Errors
///
/// When cargo cannot be started or does not end.
pub(super) fn build(scratch: &Scratch, book: &Book, proof: &Proof) -> anyhow::Result<Built> {
    let package = format!("forebay-{}", book.name());
    let mut command = scratch.cargo();
    if proof.starts.is_empty() {
        command.args(["test", "--no-run"]);
    } else {
        // In one go, so that what they have in common is built once.
        command.arg("build");
    }
    for started in &proof.starts {
        let program = format!("forebay-{started}");
        command.args(["--package", &program, "--bin", &program]);
    }
    command.args(["--package", &package]);
    match proof.target {
        Target::It | Target::Alone | Target::History => {
            command.args(["--test", proof.target.name()])
        }
        Target::Lib => command.arg("--lib"),
    };
    command.args(["--message-format", "json-render-diagnostics"]);
    let (ended, lines) = run(command, BUILD_BOUND)?;
    let Some(succeeded) = ended else {
        bail!("the build of {package} does not end");
    };
    if !succeeded {
        let error = lines.iter().find(|line| line.starts_with("error"));
        return Ok(Built::Error(error.or(lines.last()).cloned().unwrap_or_default()));
    }
    let program = lines.iter().filter_map(|line| program_of_tests(line)).next_back();
    Ok(Built::Program(program.with_context(|| format!("cargo built no tests of {package}"))?))
}

/// The program of tests that a message of cargo is about. Only one is built at a time.
fn program_of_tests(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let built = message.get("reason")? == "compiler-artifact"
        && message.get("profile")?.get("test")? == &Value::Bool(true);
    built.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
}

/// Runs one test in the folder of its crate, as `cargo test` does.
///
/// # Errors
///
/// When the program cannot be started.
pub(super) fn test(
    program: &Path,
    folder: &Path,
    proof: &Proof,
    env: &[(&'static str, OsString)],
) -> anyhow::Result<Ran> {
    let mut command = Command::new(program);
    command
        // What a test has printed is not lost when it has to be killed.
        .args([&proof.test, "--exact", "--nocapture", "--test-threads=1"])
        .current_dir(folder)
        .env("CARGO_MANIFEST_DIR", folder)
        .env("RUST_BACKTRACE", "0")
        .envs(env.iter().map(|(name, value)| (name, value)));
    let (ended, lines) = run(command, proof.bound)?;
    let end = match ended {
        None => End::Hung,
        Some(false) => End::Failed,
        Some(true) if lines.iter().any(|line| line == "running 1 test") => End::Passed,
        Some(true) => End::Missing,
    };
    Ok(Ran { end, lines })
}

/// Runs `command` to its end and tells whether it succeeded, and what it wrote. It is killed after
/// `bound`, and then the answer is `None`.
fn run(command: Command, bound: Duration) -> anyhow::Result<(Option<bool>, Vec<String>)> {
    let lines: Arc<Mutex<VecDeque<String>>> = Arc::default();
    let sink = Arc::clone(&lines);
    let output = Output::Lines(Arc::new(move |line| {
        let mut lines = sink.lock();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }));
    let process = Process::spawn(command, StopSignal::Terminate, &output, None)?;
    let ended = process.wait(bound).map(|status| status.success());
    if ended.is_none() {
        process.kill();
    }
    // Waits for the last words.
    let _last = process.tail();
    let lines = std::mem::take(&mut *lines.lock());
    Ok((ended, lines.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, bound: Duration) -> (Option<bool>, Vec<String>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, bound).expect("a shell")
    }

    #[test]
    fn a_program_is_heard_to_its_end_and_no_longer_than_its_bound() {
        let (ended, lines) = shell("echo one; echo two >&2; exit 3", Duration::from_secs(60));
        assert_eq!((ended, lines), (Some(false), vec!["one".to_owned(), "two".to_owned()]));
        let (ended, lines) = shell("echo first; sleep 600", Duration::from_millis(500));
        assert_eq!((ended, lines), (None, vec!["first".to_owned()]));
    }

    #[test]
    fn of_what_cargo_builds_the_tests_are_found() {
        let cases = [
            (
                r#"{"reason":"compiler-artifact","profile":{"test":true},"executable":"/t/it"}"#,
                true,
            ),
            (
                r#"{"reason":"compiler-artifact","profile":{"test":false},"executable":"/t/x"}"#,
                false,
            ),
            (r#"{"reason":"compiler-artifact","profile":{"test":true},"executable":null}"#, false),
            (r#"{"reason":"build-finished","success":true}"#, false),
            ("warning: unused", false),
        ];
        for (message, found) in cases {
            assert_eq!(program_of_tests(message).is_some(), found, "{message}");
        }
    }
}
