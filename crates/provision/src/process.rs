//! A child process in a process group of its own, stopped as a whole.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use parking_lot::{Condvar, Mutex};

use crate::proc_table::Identity;
use crate::{ProvisionError, Stopwatch, guard};

/// Lines kept to explain a death.
const TAIL_LINES: usize = 20;

/// A longer line is split here, so that a process cannot fill our memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// Where the lines go that a process writes to its standard output and error.
#[derive(Clone, Default)]
pub enum Output {
    /// Only the last lines are kept, to explain a death.
    #[default]
    Discard,
    /// Appended to a file.
    File(PathBuf),
    /// Handed to a function, line by line, from another thread.
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
    /// Written to where our own output goes; no last lines are kept.
    Inherit,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "Discard",
            Self::File(_) => "File",
            Self::Lines(_) => "Lines",
            Self::Inherit => "Inherit",
        })
    }
}

/// The signal that asks a process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, for nearly everybody.
    Terminate,
    /// SIGINT: Postgres stops at once but cleanly, without waiting for its clients.
    Interrupt,
    /// SIGQUIT: Postgres stops at once and recovers at the next start.
    Quit,
}

impl StopSignal {
    pub(crate) const fn signal(self) -> Signal {
        match self {
            Self::Terminate => Signal::SIGTERM,
            Self::Interrupt => Signal::SIGINT,
            Self::Quit => Signal::SIGQUIT,
        }
    }
}

/// How a process was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It had ended before.
    AlreadyGone,
    /// It ended by itself when asked.
    Gracefully,
    /// It had to be killed.
    Killed,
}

/// A running child process. Dropping it kills its whole group.
#[derive(Debug)]
pub struct Process {
    identity: Identity,
    stop_signal: StopSignal,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    exit: Option<ExitStatus>,
    tail: VecDeque<String>,
    reading: bool,
}

impl Process {
    /// Starts `command` in a new process group. `dir` is the directory a server works in, if all
    /// processes that work there belong to it.
    ///
    /// # Errors
    ///
    /// [`ProvisionError::Spawn`], for [`Output::File`] also [`ProvisionError::Path`], and
    /// [`ProvisionError::Closing`] once [`guard::close`] was called.
    pub fn spawn(
        mut command: Command,
        stop_signal: StopSignal,
        output: &Output,
        dir: Option<&std::path::Path>,
    ) -> Result<Self, ProvisionError> {
        let sink = Sink::open(output)?;
        command.process_group(0).stdin(Stdio::null());
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| ProvisionError::Spawn { program: program.clone(), source };
        let reader = match sink {
            None => None,
            Some(sink) => {
                // One pipe for both streams, so that their lines keep their order.
                let (reader, writer) = std::io::pipe().map_err(failed)?;
                command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
                Some((reader, sink))
            }
        };
        let leave = guard::leave()?;
        let child = command.spawn().map_err(failed)?;
        // The command still holds the pipe's write end, which would keep the reader waiting.
        drop(command);
        let pid = child.id();
        let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
        guard::add(identity, stop_signal, dir);
        drop(leave);
        let shared = Arc::new(Shared::default());
        if let Some((reader, sink)) = reader {
            shared.state.lock().reading = true;
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || read_lines(reader, sink, &shared));
        }
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || reap(child, &watched));
        Ok(Self { identity, stop_signal, shared })
    }

    /// Process id, which is the id of the group too.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// The process told apart from any later one with the same id.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.shared.state.lock().exit
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits for the end, at most for `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let watch = Stopwatch::start();
        let mut state = self.shared.state.lock();
        loop {
            if let Some(exit) = state.exit {
                return Some(exit);
            }
            let left = timeout.checked_sub(watch.elapsed())?;
            self.shared.changed.wait_for(&mut state, left);
        }
    }

    /// The last lines it wrote, at most 20, when its output is kept.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        const FLUSH: Duration = Duration::from_secs(1);
        let watch = Stopwatch::start();
        let mut state = self.shared.state.lock();
        // A process that has ended may have last words still in the pipe.
        while state.exit.is_some() && state.reading {
            let Some(left) = FLUSH.checked_sub(watch.elapsed()) else {
                break;
            };
            self.shared.changed.wait_for(&mut state, left);
        }
        state.tail.iter().cloned().collect()
    }

    /// Sends a signal to the whole group; false when it has ended.
    pub fn signal(&self, signal: Signal) -> bool {
        // The lock keeps the reaper from giving the id back between the look and the signal.
        let state = self.shared.state.lock();
        state.exit.is_none() && killpg(group(self.pid()), signal).is_ok()
    }

    /// Asks it to stop and does not wait.
    pub fn ask_to_stop(&self) {
        self.signal(self.stop_signal.signal());
        // A suspended process cannot act on any signal but this one.
        self.signal(Signal::SIGCONT);
    }

    /// Asks it to stop, waits `grace` and kills what is left of the group.
    pub fn stop(&self, grace: Duration) -> Stopped {
        if !self.is_running() {
            return Stopped::AlreadyGone;
        }
        self.ask_to_stop();
        if self.wait(grace).is_some() {
            return Stopped::Gracefully;
        }
        self.kill();
        Stopped::Killed
    }

    /// Kills the whole group and waits until it is gone.
    pub fn kill(&self) {
        const REAPED: Duration = Duration::from_secs(10);
        self.signal(Signal::SIGKILL);
        // SIGKILL cannot be refused; the bound is for a kernel that is stuck in I/O.
        let _gone = self.wait(REAPED);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            self.kill();
        }
    }
}

fn group(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Waits for the end, then ends what the process left behind in its group.
fn reap(mut child: Child, shared: &Shared) {
    let pid = child.id();
    await_exit(pid);
    let mut state = shared.state.lock();
    // Until it is reaped the zombie keeps its id, so the group cannot be anybody else's.
    let _already_empty = killpg(group(pid), Signal::SIGKILL);
    // An error means that somebody else reaped it: it has ended all the same.
    state.exit = Some(child.wait().unwrap_or_default());
    drop(state);
    shared.changed.notify_all();
    guard::remove(pid);
}

#[cfg(target_os = "linux")]
fn await_exit(pid: u32) {
    use nix::errno::Errno;
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while waitid(Id::Pid(group(pid)), flags) == Err(Errno::EINTR) {}
}

/// Without `waitid` the zombie is looked for instead.
#[cfg(not(target_os = "linux"))]
fn await_exit(pid: u32) {
    while Identity::of(pid).is_some() {
        crate::pause(Duration::from_millis(50));
    }
}

enum Sink {
    None,
    File(std::fs::File),
    Lines(Arc<dyn Fn(&str) + Send + Sync>),
}

impl Sink {
    fn open(output: &Output) -> Result<Option<Self>, ProvisionError> {
        Ok(match output {
            Output::Discard => Some(Self::None),
            Output::Inherit => None,
            Output::Lines(sink) => Some(Self::Lines(Arc::clone(sink))),
            Output::File(path) => Some(Self::File(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(path)
                    .map_err(ProvisionError::path("open", path))?,
            )),
        })
    }

    fn write(&mut self, line: &str) {
        match self {
            Self::None => {}
            // A full disk must not stop the server whose words these are; they stay in the tail.
            Self::File(file) => drop(writeln!(file, "{line}")),
            Self::Lines(sink) => sink(line),
        }
    }
}

fn read_lines(stream: impl Read, mut sink: Sink, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&bytes);
        let line = text.trim_end_matches(['\n', '\r']);
        let mut state = shared.state.lock();
        if state.tail.len() == TAIL_LINES {
            state.tail.pop_front();
        }
        state.tail.push_back(line.to_owned());
        drop(state);
        sink.write(line);
    }
    shared.state.lock().reading = false;
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests;
