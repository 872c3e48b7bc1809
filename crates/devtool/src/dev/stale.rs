//! What a killed supervisor may have left: taken over only when it is really gone.

use std::time::Duration;

use anyhow::Context as _;
use forebay_provision::guard;
use forebay_provision::proc_table::Identity;
use nix::fcntl::{Flock, FlockArg};

use crate::state::{Group, State};
use crate::workspace::Instance;

/// How long the lock may be held by somebody who only looks whether a supervisor has it; a
/// supervisor holds it for as long as it lives.
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);

/// How long the guard of a killed supervisor may take before its work is done here.
const GUARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Held by the supervisor of an instance as long as it lives; the system lets go of it when the
/// supervisor dies.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not read")] Flock<std::fs::File>);

/// Takes the lock of an instance; `None` when another supervisor has it.
///
/// # Errors
///
/// When the lock file cannot be opened or locked.
pub(crate) fn lock(instance: &Instance) -> anyhow::Result<Option<Lock>> {
    let path = instance.lock_file();
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(Lock(lock))),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

/// Takes the lock for a supervisor, past those who only look whether it is taken; `None` when
/// another supervisor has it. Waits on the thread, for at most 200 ms.
///
/// # Errors
///
/// As [`lock`].
pub(crate) fn lock_to_keep(instance: &Instance) -> anyhow::Result<Option<Lock>> {
    const STEP: Duration = Duration::from_millis(5);
    let taken = forebay_provision::wait_until(LOOK_TIMEOUT, STEP, || lock(instance).transpose());
    taken.transpose()
}

/// Ends what the last supervisor left behind and returns the names of it. May block.
pub(crate) fn clear(last: &State) -> Vec<String> {
    const STEP: Duration = Duration::from_millis(20);
    let alive = |group: &&Group| Identity::from(group.leader).is_alive();
    let left: Vec<String> =
        last.groups.iter().filter(alive).map(|group| group.name.clone()).collect();
    if let Some(guard) = last.guard {
        let gone = || (!Identity::from(guard).is_alive()).then_some(());
        // Its guard ends the groups politely; two at once would only get in each other's way.
        forebay_provision::wait_until(GUARD_TIMEOUT, STEP, gone);
    }
    let entries: Vec<guard::Entry> = last.groups.iter().map(Group::entry).collect();
    guard::end(&entries, Duration::from_secs(3));
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn a_supervisor_gets_past_a_look_and_not_past_another_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf() };
        let instance = workspace.instance(None).unwrap();
        instance.create().unwrap();
        let look = lock(&instance).unwrap().unwrap();
        let looking = std::thread::spawn(move || {
            forebay_provision::pause(LOOK_TIMEOUT / 10);
            drop(look);
        });
        let supervisor = lock_to_keep(&instance).unwrap();
        looking.join().unwrap();
        assert!(supervisor.is_some());
        assert!(lock_to_keep(&instance).unwrap().is_none());
    }
}
