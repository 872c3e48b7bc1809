//! Helper programs (initdb, apt-get, pip) that run to their end, within a bound.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Output, Process, ProvisionError, StopSignal};

/// Runs `command` to its end and returns what it wrote, the last lines of both streams together.
///
/// # Errors
///
/// When it cannot be started, does not end within `timeout` (it is killed then), or fails.
pub(crate) fn run(command: Command, timeout: Duration) -> Result<Vec<String>, ProvisionError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let output = Output::Lines(Arc::new(move |line: &str| {
        let mut lines = sink.lock();
        if lines.len() < LINES_MAX {
            lines.push(line.to_owned());
        }
    }));
    let process = Process::spawn(command, StopSignal::Terminate, &output, None)?;
    let Some(status) = process.wait(timeout) else {
        process.kill();
        return Err(ProvisionError::HelperTimeout { program, timeout });
    };
    // Waits for the readers, so that `lines` is complete.
    let tail = process.tail();
    if status.success() {
        return Ok(std::mem::take(&mut *lines.lock()));
    }
    Err(ProvisionError::Helper { program, status, output: joined(&tail) })
}

/// Lines of a helper that are kept; more than any of ours writes.
const LINES_MAX: usize = 10_000;

/// Lines as one line for an error message.
pub(crate) fn joined(lines: &[String]) -> String {
    let kept: Vec<&str> =
        lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    if kept.is_empty() { "it wrote nothing".to_owned() } else { kept.join(" | ") }
}

/// The first line that `program --version` writes.
pub(crate) fn version_line(mut command: Command) -> Result<String, String> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    command.arg("--version");
    let lines = run(command, TIMEOUT).map_err(|error| describe(&error))?;
    lines.into_iter().next().ok_or_else(|| "--version wrote nothing".to_owned())
}

/// An error and its causes in one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
