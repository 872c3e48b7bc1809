//! The table of processes: is this still the process we started?

use std::path::{Path, PathBuf};

/// A process told apart from a later one that got the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// When it started, in an unspecified unit that is stable while the machine is up.
    pub started: u64,
}

impl Identity {
    /// The identity of a live process; `None` when there is none or only its zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (!stat.zombie).then_some(Self { pid, started: stat.started })
    }

    /// This process.
    #[must_use]
    pub fn own() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, started: 0 })
    }

    /// Whether that very process still runs. A zombie and a reused id count as gone.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Live processes whose working directory is `dir` or below it, this one excepted.
///
/// Postgres gives every backend a session of its own, so a process group does not hold them all;
/// the working directory does.
#[must_use]
pub fn below(dir: &Path) -> Vec<Identity> {
    let own = std::process::id();
    let canonical = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    pids()
        .into_iter()
        .filter(|pid| *pid != own)
        .filter(|pid| working_dir(*pid).is_some_and(|cwd| cwd.starts_with(&canonical)))
        .filter_map(Identity::of)
        .collect()
}

/// Whether a process group has a member that is not a zombie.
#[must_use]
pub fn group_has_live_member(group: u32) -> bool {
    pids().into_iter().filter_map(stat).any(|stat| stat.group == group && !stat.zombie)
}

/// The name of the program a process runs, at most 15 bytes of it.
#[must_use]
pub fn program(pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(text.trim_end().to_owned())
}

fn working_dir(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

struct Stat {
    zombie: bool,
    group: u32,
    started: u64,
}

#[cfg(target_os = "linux")]
fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Where there is no `/proc`, `ps` knows the same, to the second.
#[cfg(not(target_os = "linux"))]
fn stat(pid: u32) -> Option<Stat> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let output = std::process::Command::new("ps")
        .args(["-o", "state=,pgid=,lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (state, rest) = text.trim().split_once(char::is_whitespace)?;
    let (group, started) = rest.trim().split_once(char::is_whitespace)?;
    let mut hasher = DefaultHasher::new();
    started.trim().hash(&mut hasher);
    let group = group.parse().ok()?;
    Some(Stat { zombie: state.starts_with('Z'), group, started: hasher.finish() })
}

/// Reads `/proc/PID/stat`. The second field is the program's name in parentheses and may hold blanks
/// and parentheses itself, so fields are counted from the last one.
#[cfg_attr(not(any(target_os = "linux", test)), expect(dead_code, reason = "/proc is Linux"))]
fn parse_stat(text: &str) -> Option<Stat> {
    const STATE: usize = 0;
    const GROUP: usize = 2;
    const STARTED: usize = 19;
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
    let state = fields.get(STATE)?;
    Some(Stat {
        zombie: matches!(*state, "Z" | "X" | "x"),
        group: fields.get(GROUP)?.parse().ok()?,
        started: fields.get(STARTED)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..30).map(|n| n.to_string()).collect();
        for name in ["sh", "a b", "x) Z 1 (y"] {
            let text = format!("7 ({name}) S {}", fields.join(" "));
            let stat = parse_stat(&text).unwrap();
            assert!(!stat.zombie, "{name}");
            assert_eq!(stat.started, 22, "{name}");
        }
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let identity = Identity { pid: child.id(), started: 0 };
        let gone = crate::wait_until(
            std::time::Duration::from_secs(5),
            std::time::Duration::from_millis(5),
            || Identity::of(identity.pid).is_none().then_some(()),
        );
        assert!(gone.is_some(), "not reaped yet, and yet gone");
        child.wait().unwrap();
    }

    #[test]
    fn a_reused_id_is_another_process() {
        let own = Identity::own();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own }.is_alive());
    }
}
