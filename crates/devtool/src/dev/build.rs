//! Building the services, with a sign of life.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_provision::{Output, Process, StopSignal, Stopwatch};
use parking_lot::Mutex;
use serde::Deserialize;

use super::board::Board;
use crate::cargo;
use crate::workspace::Workspace;

/// How often a long build says how far it is.
const SIGN_INTERVAL: Duration = Duration::from_secs(2);

/// The programs that were built, by name.
pub(crate) type Programs = BTreeMap<String, PathBuf>;

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    fresh: bool,
    executable: Option<PathBuf>,
}

/// Builds the services.
///
/// # Errors
///
/// When they do not compile; what the compiler said has been passed on by then.
pub(crate) async fn build(
    workspace: &Workspace,
    board: &Arc<Board>,
    release: bool,
) -> anyhow::Result<Programs> {
    let mut command = cargo::command(workspace);
    command.args(["build", "--message-format", "json-render-diagnostics"]);
    command.args(cargo::PRODUCT.iter().flat_map(|name| ["--package", name]));
    if release {
        command.arg("--release");
    }
    let progress = Arc::new(Mutex::new(Progress::new(Arc::clone(board))));
    let sink = Arc::clone(&progress);
    let output = Output::Lines(Arc::new(move |line: &str| sink.lock().line(line)));
    let process = Process::spawn(command, StopSignal::Terminate, &output, None)?;
    let status = tokio::task::spawn_blocking(move || {
        const CHECK: Duration = Duration::from_secs(3600);
        let status = std::iter::repeat_with(|| process.wait(CHECK)).flatten().next();
        // Its last lines are still to be read.
        let _read = process.tail();
        status
    })
    .await
    .context("wait for cargo")?
    .context("cargo never ended")?;
    if !status.success() {
        bail!("the services do not build; see above");
    }
    Ok(std::mem::take(&mut progress.lock().programs))
}

struct Progress {
    board: Arc<Board>,
    programs: Programs,
    compiled: usize,
    signed: Stopwatch,
}

impl Progress {
    fn new(board: Arc<Board>) -> Self {
        Self { board, programs: Programs::new(), compiled: 0, signed: Stopwatch::start() }
    }

    fn line(&mut self, line: &str) {
        if let Ok(message) = serde_json::from_str::<Message>(line) {
            self.message(message);
        } else if let Some(krate) = line.trim_start().strip_prefix("Compiling ") {
            if self.signed.elapsed() >= SIGN_INTERVAL {
                let name = krate.split_whitespace().next().unwrap_or(krate);
                self.sign(&format!("building {name}, {} crates done", self.compiled));
            }
        } else if !line.trim_start().starts_with("Finished ") && !line.is_empty() {
            self.board.say(line);
        }
    }

    fn message(&mut self, message: Message) {
        if message.reason != "compiler-artifact" {
            return;
        }
        if !message.fresh {
            self.compiled += 1;
        }
        if let Some(program) = message.executable
            && let Some(name) = program.file_name().and_then(|name| name.to_str())
        {
            self.programs.insert(name.to_owned(), program);
        }
    }

    fn sign(&mut self, text: &str) {
        self.board.say(text);
        self.signed = Stopwatch::start();
    }
}
