//! The guard: what it was told of ends when its pipe does.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use forebay_provision::guard;
use forebay_provision::proc_table::Identity;

use crate::{dir, until, variable};

/// The program that a `kill -9` of its parent cannot reach. Fails when the guard does not act on
/// the end of its pipe.
#[test]
fn the_end_of_the_pipe_ends_the_groups_and_removes_the_directories() {
    let program = variable(guard::PROGRAM_ENV);
    let scratch = dir().keep();
    let mut guarding = Command::new(program)
        .arg(guard::ARGUMENT)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    // One that goes when asked, one that does not, and one that the guard was told to forget.
    let scripts = ["exec sleep 1000", "trap '' TERM; while :; do sleep 1; done", "exec sleep 1000"];
    let mut children: Vec<_> = scripts
        .iter()
        .map(|script| Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap())
        .collect();
    let identities: Vec<_> =
        children.iter().map(|child| Identity::of(child.id()).unwrap()).collect();
    let mut pipe = guarding.stdin.take().unwrap();
    for identity in &identities {
        writeln!(pipe, "add {} {} term ", identity.pid, identity.started).unwrap();
    }
    writeln!(pipe, "del {}", identities[2].pid).unwrap();
    writeln!(pipe, "dir {}", scratch.display()).unwrap();
    drop(pipe);

    guarding.wait().unwrap();
    until("the groups are gone", || !identities[0].is_alive() && !identities[1].is_alive());
    assert!(identities[2].is_alive(), "what was taken off the list is left alone");
    assert!(!scratch.exists());
    children[2].kill().unwrap();
    for child in &mut children {
        child.wait().unwrap();
    }
}
