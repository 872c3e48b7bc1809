//! A small process that outlives ours and ends what we started, even after `kill -9`.
//!
//! We hold the write end of its standard input and tell it of every process group we start. When we
//! die, however we die, the kernel closes the pipe; the guard reads the end of the file, asks the
//! groups to stop, waits a moment, and kills the rest.

use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::proc_table::{self, Identity};
use crate::{ProvisionError, StopSignal};

/// Environment variable with the program to run as guard; its first argument will be
/// [`ARGUMENT`]. It is read when nobody called [`install`].
pub const PROGRAM_ENV: &str = "FOREBAY_GUARD";

/// The argument that makes a program call [`main`].
pub const ARGUMENT: &str = "__guard";

/// How long the groups of a dead parent may take to end before they are killed.
const GRACE: Duration = Duration::from_secs(3);

static GUARD: OnceLock<Option<Mutex<Guard>>> = OnceLock::new();

/// Whether this process is ending and starts nothing any more. Read over the start of a process and
/// until the guard knows of it, so that none falls in between.
///
/// It is always taken before the lock of [`GUARD`] and never by whoever holds that.
static CLOSING: RwLock<bool> = RwLock::new(false);

/// Starts the guard of this process: `program` run with [`ARGUMENT`]. A second call does nothing.
///
/// # Errors
///
/// When the program cannot be started.
pub fn install(program: &Path) -> Result<(), ProvisionError> {
    let guard = Guard::start(program)?;
    let _first = GUARD.set(Some(Mutex::new(guard)));
    Ok(())
}

/// The guard's process, when there is one.
#[must_use]
pub fn identity() -> Option<Identity> {
    let guard = GUARD.get()?.as_ref()?.lock();
    Identity::of(guard.child.id())
}

/// Lets the guard go at the end of this process, and waits until it has ended what is left.
///
/// Another thread that is still at work, such as one that fetches a server, can start nothing from
/// here on: [`ProvisionError::Closing`]. The end of this process then leaves nothing behind.
pub fn close() {
    const GOODBYE: Duration = Duration::from_secs(5);
    *CLOSING.write() = true;
    let Some(Some(guard)) = GUARD.get() else {
        return;
    };
    let mut guard = guard.lock();
    drop(guard.child.stdin.take());
    let gone = || guard.child.try_wait().ok().flatten();
    // The bound is for a stuck one.
    let _status = crate::wait_until(GOODBYE, Duration::from_millis(5), gone);
}

/// Lets the guard remove `dir` after the groups have ended, should we not live to do it.
pub fn add_dir(dir: &Path) {
    send(Entry::Dir(dir.to_path_buf()));
}

/// Leave to start a process, to be held until the guard was told of it.
///
/// # Errors
///
/// [`ProvisionError::Closing`] from [`close`] on.
pub(crate) fn leave() -> Result<RwLockReadGuard<'static, bool>, ProvisionError> {
    let closing = CLOSING.read();
    if *closing { Err(ProvisionError::Closing) } else { Ok(closing) }
}

pub(crate) fn add(identity: Identity, signal: StopSignal, dir: Option<&Path>) {
    send(Entry::Group { identity, signal, dir: dir.map(Path::to_path_buf) });
}

pub(crate) fn remove(pid: u32) {
    if let Some(guard) = installed() {
        guard.lock().remove(pid);
    }
}

/// What the guard process does: reads its standard input to the end, then ends all that is left.
pub fn main() {
    let mut entries = Vec::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.strip_prefix("del ") {
            Some(pid) => {
                let pid = pid.parse().unwrap_or(0);
                entries.retain(|entry: &Entry| entry.pid() != Some(pid));
            }
            None => entries.extend(Entry::parse(&line)),
        }
    }
    end(&entries, GRACE);
}

/// Ends process groups that a dead process left behind: asks, waits, kills, removes directories.
pub fn end(entries: &[Entry], grace: Duration) {
    const STEP: Duration = Duration::from_millis(20);
    const LAST: Duration = Duration::from_secs(2);
    for entry in entries {
        entry.ask();
    }
    let gone = |entries: &[Entry]| entries.iter().all(|e| !e.is_left()).then_some(());
    if crate::wait_until(grace, STEP, || gone(entries)).is_none() {
        // Twice, because a server may have started a child between the look and the signal.
        entries.iter().for_each(Entry::kill);
        crate::wait_until(LAST, STEP, || {
            entries.iter().for_each(Entry::kill);
            gone(entries)
        });
    }
    for entry in entries {
        if let Entry::Dir(dir) = entry {
            // Nobody is left to tell; what cannot be removed is found in the temporary directory.
            let _removed = std::fs::remove_dir_all(dir);
        }
    }
}

/// Something to end when its owner has died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A process group and, for a server whose children leave the group, its working directory.
    Group {
        /// The leader.
        identity: Identity,
        /// How to ask it to stop.
        signal: StopSignal,
        /// Every process that works in this directory belongs to it.
        dir: Option<PathBuf>,
    },
    /// A directory to remove.
    Dir(PathBuf),
}

impl Entry {
    fn pid(&self) -> Option<u32> {
        match self {
            Self::Group { identity, .. } => Some(identity.pid),
            Self::Dir(_) => None,
        }
    }

    fn line(&self) -> String {
        match self {
            Self::Group { identity, signal, dir } => {
                let signal = match signal {
                    StopSignal::Terminate => "term",
                    StopSignal::Interrupt => "int",
                    StopSignal::Quit => "quit",
                };
                let dir = dir.as_deref().unwrap_or(Path::new("")).display();
                format!("add {} {} {signal} {dir}", identity.pid, identity.started)
            }
            Self::Dir(dir) => format!("dir {}", dir.display()),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        if let Some(dir) = line.strip_prefix("dir ") {
            return Some(Self::Dir(PathBuf::from(dir)));
        }
        let mut words = line.strip_prefix("add ")?.splitn(4, ' ');
        let identity =
            Identity { pid: words.next()?.parse().ok()?, started: words.next()?.parse().ok()? };
        let signal = match words.next()? {
            "int" => StopSignal::Interrupt,
            "quit" => StopSignal::Quit,
            _ => StopSignal::Terminate,
        };
        let dir = words.next().filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Some(Self::Group { identity, signal, dir })
    }

    fn ask(&self) {
        let Self::Group { identity, signal, .. } = self else {
            return;
        };
        if identity.is_alive() {
            let group = raw(identity.pid);
            // An error means that the group has just ended, which is what is wanted.
            let _ended = killpg(group, signal.signal());
            let _ended = killpg(group, Signal::SIGCONT);
        }
    }

    fn kill(&self) {
        let Self::Group { identity, dir, .. } = self else {
            return;
        };
        if Self::owns_group(*identity) {
            let _ended = killpg(raw(identity.pid), Signal::SIGKILL);
        }
        for process in dir.iter().flat_map(|dir| proc_table::below(dir)) {
            let _ended = kill(raw(process.pid), Signal::SIGKILL);
        }
    }

    fn is_left(&self) -> bool {
        let Self::Group { identity, dir, .. } = self else {
            return false;
        };
        identity.is_alive()
            || (Self::owns_group(*identity) && killpg(raw(identity.pid), None).is_ok() && {
                // Zombies keep a group alive until somebody reaps them, and hold nothing.
                proc_table::group_has_live_member(identity.pid)
            })
            || dir.as_deref().is_some_and(|dir| !proc_table::below(dir).is_empty())
    }

    /// Whether the group with this id is still the one we mean: its leader is alive, or it has none
    /// any more. The system gives no process the id of a group that has members.
    fn owns_group(identity: Identity) -> bool {
        Identity::of(identity.pid).is_none_or(|now| now == identity)
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

struct Guard {
    program: PathBuf,
    child: Child,
    entries: Vec<Entry>,
}

impl Guard {
    fn start(program: &Path) -> Result<Self, ProvisionError> {
        let child = spawn(program)?;
        Ok(Self { program: program.to_path_buf(), child, entries: Vec::new() })
    }

    fn add(&mut self, entry: Entry) {
        let line = entry.line();
        self.entries.push(entry);
        self.write(&line);
    }

    fn remove(&mut self, pid: u32) {
        self.entries.retain(|entry| entry.pid() != Some(pid));
        self.write(&format!("del {pid}"));
    }

    /// Tells the guard, or a new one when somebody has killed it.
    fn write(&mut self, line: &str) {
        // Without its pipe it was closed, and everything it knew of has ended.
        if self.child.stdin.is_none() || self.try_write(&[line]).is_ok() {
            return;
        }
        let _reaped = self.child.try_wait();
        if let Ok(child) = spawn(&self.program) {
            self.child = child;
            let lines: Vec<String> = self.entries.iter().map(Entry::line).collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            // Without a guard everything still works; only a `kill -9` would leave orphans.
            let _told = self.try_write(&lines);
        }
    }

    fn try_write(&mut self, lines: &[&str]) -> std::io::Result<()> {
        let Some(pipe) = self.child.stdin.as_mut() else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        lines.iter().try_for_each(|line| writeln!(pipe, "{line}"))
    }
}

fn spawn(program: &Path) -> Result<Child, ProvisionError> {
    Command::new(program)
        .arg(ARGUMENT)
        // A terminal's Ctrl-C and hang-up go to its own group and so miss the guard.
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| ProvisionError::Spawn { program: program.display().to_string(), source })
}

fn installed() -> Option<&'static Mutex<Guard>> {
    GUARD
        .get_or_init(|| {
            let program = std::env::var_os(PROGRAM_ENV)?;
            Guard::start(Path::new(&program)).ok().map(Mutex::new)
        })
        .as_ref()
}

fn send(entry: Entry) {
    if let Some(guard) = installed() {
        guard.lock().add(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_pipe() {
        let identity = Identity { pid: 7, started: 99 };
        let cases = [
            Entry::Group { identity, signal: StopSignal::Terminate, dir: None },
            Entry::Group {
                identity,
                signal: StopSignal::Interrupt,
                dir: Some(PathBuf::from("/a dir/with blanks")),
            },
            Entry::Dir(PathBuf::from("/a dir/x y")),
        ];
        for entry in cases {
            assert_eq!(Entry::parse(&entry.line()), Some(entry));
        }
        assert_eq!(Entry::parse("nonsense"), None);
    }

    #[test]
    fn a_group_is_asked_then_killed() {
        let mut child = Command::new("sh")
            .args(["-c", "trap '' TERM; sleep 1000 & wait; wait"])
            .process_group(0)
            .spawn()
            .unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let entry = Entry::Group { identity, signal: StopSignal::Terminate, dir: None };
        assert!(entry.is_left());
        end(std::slice::from_ref(&entry), Duration::from_millis(200));
        assert!(!entry.is_left());
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_id_is_left_alone() {
        let own = Identity::own();
        let stale = Identity { started: own.started + 1, ..own };
        let entry = Entry::Group { identity: stale, signal: StopSignal::Terminate, dir: None };
        assert!(!entry.is_left());
        entry.ask();
        entry.kill();
    }
}
