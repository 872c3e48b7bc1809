//! `dev --detach`: a supervisor in a session of its own, watched until it is ready.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::proc_table::Identity;

use super::Options;
use crate::signals::Interrupts;
use crate::state::{Phase, State};
use crate::workspace::{Instance, Workspace};
use crate::{cargo, say};

/// How often the supervisor's progress is looked at.
const STEP: Duration = Duration::from_millis(30);

/// Starts the supervisor and returns when the instance is ready or has failed.
///
/// # Errors
///
/// When the supervisor cannot be started.
pub(crate) fn start(
    workspace: &Workspace,
    instance: &Instance,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(start_in(workspace, instance, options))
}

async fn start_in(
    workspace: &Workspace,
    instance: &Instance,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::install().context("listen for signals")?;
    let log = instance.logs_dir().join("supervisor.log");
    let out = File::create(&log).with_context(|| format!("create {}", log.display()))?;
    let err = out.try_clone().context("share the log")?;
    let mut child = Command::new(cargo::own_program()?)
        .args(arguments(instance, options))
        .env("FOREBAY_WORKSPACE", &workspace.root)
        .current_dir(&workspace.root)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .context("start the supervisor")?;
    let supervisor = Identity::of(child.id());
    let mut progress = Progress {
        file: File::open(&log).context("read the supervisor's log")?,
        bytes: 0,
        complete: false,
    };
    let mut told_to_stop = 0;
    loop {
        progress.pass_on();
        if let Some(status) = child.try_wait().context("wait for the supervisor")? {
            progress.pass_on();
            let stopped = status.success();
            return Ok(if stopped { ExitCode::from(130) } else { ExitCode::FAILURE });
        }
        let state = State::load(instance).ok().flatten();
        let ready = state.is_some_and(|state| {
            state.phase == Phase::Ready && Some(Identity::from(state.supervisor)) == supervisor
        });
        if ready {
            // The table is written just after the state.
            progress.pass_on_the_table().await;
            return Ok(ExitCode::SUCCESS);
        }
        tokio::select! {
            () = tokio::time::sleep(STEP) => {}
            () = interrupts.at_least(told_to_stop + 1) => {
                told_to_stop = interrupts.count();
                terminate(child.id());
            }
        }
    }
}

fn arguments(instance: &Instance, options: &Options) -> Vec<String> {
    let mut arguments = vec!["dev", "--supervise", "--instance", &instance.name];
    let flags = [
        ("--fresh", options.fresh),
        ("--release", options.release),
        ("--timings", options.timings),
    ];
    arguments.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag));
    arguments.into_iter().map(str::to_owned).collect()
}

fn terminate(pid: u32) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended in this very moment, which is what is wanted.
        let _ended = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

struct Progress {
    file: File,
    bytes: u64,
    /// Whether the last line of a start has been passed on.
    complete: bool,
}

impl Progress {
    /// Prints what the supervisor has written since the last time.
    fn pass_on(&mut self) {
        let mut text = String::new();
        let read = self
            .file
            .seek(SeekFrom::Start(self.bytes))
            .and_then(|_| self.file.read_to_string(&mut text));
        // Half a line, or half a character, is left for the next time.
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        if read.is_ok() && !text.is_empty() {
            self.bytes += u64::try_from(whole).unwrap_or(0);
            say::line(text.trim_end_matches('\n'));
            self.complete |= text.contains(super::supervisor::LAST_WORDS);
        }
    }

    /// Waits for the rest of what a supervisor says when it is ready.
    async fn pass_on_the_table(&mut self) {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            self.pass_on();
            if self.complete {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }
}
