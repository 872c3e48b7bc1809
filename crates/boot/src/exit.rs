//! Exit codes, and what is said on the way out.

use std::io::Write;
use std::process::ExitCode;

use forebay_telemetry::Handle;

/// The settings or the command line cannot be used (`EX_USAGE` of sysexits.h).
pub(crate) const USAGE: u8 = 64;
/// The service panicked; the code Rust itself uses.
pub(crate) const PANIC: u8 = 101;
/// Ended by a second SIGINT: 128 + the signal's number, as shells report it.
pub(crate) const INTERRUPTED: i32 = 130;
/// Ended by a second SIGTERM.
pub(crate) const TERMINATED: i32 = 143;

/// How a process ended.
pub(crate) enum Outcome {
    /// The service returned without an error.
    Done,
    /// The service returned an error, or did not stop in time.
    Failed(anyhow::Error),
    /// The service panicked.
    Panicked,
}

impl Outcome {
    /// Logs a failure, here and nowhere else, and gives the exit code.
    pub(crate) fn report(self, telemetry: &Handle) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Failed(error) => {
                failed(&error, telemetry);
                ExitCode::FAILURE
            }
            // The panic hook has said where and why.
            Self::Panicked => ExitCode::from(PANIC),
        }
    }
}

/// One line with the whole chain of causes; also when logging is turned off, because a
/// process that ends without a reason cannot be helped.
fn failed(error: &anyhow::Error, telemetry: &Handle) {
    let chain = format!("{error:#}");
    if logs_errors(telemetry) {
        tracing::error!(error = chain, "failed");
    } else {
        complain(&format!("error: {chain}"));
    }
}

fn logs_errors(telemetry: &Handle) -> bool {
    telemetry.logs(module_path!(), tracing::Level::ERROR)
}

/// Prints the answer to a command such as `--version`.
pub(crate) fn answer(text: &str) -> ExitCode {
    // A reader that went away, as in `--print-config | head -1`, is not a failure of ours
    // worth a message, but it is not a success either.
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says why the process ends while there is no log yet.
pub(crate) fn complain(text: &str) {
    // With stderr gone there is nowhere left to say that it is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Makes panics log lines, so that they carry trace ids and stay one line.
pub(crate) fn log_panics(telemetry: Handle) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !logs_errors(&telemetry) {
            return print(panic);
        }
        let payload = panic.payload_as_str().unwrap_or("a value that is not text");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            tracing::error!(location, payload, %backtrace, "panicked");
        } else {
            tracing::error!(location, payload, "panicked");
        }
    }));
}
