//! Real processes: groups end as a whole, last words are kept.

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::spawn(command, StopSignal::Terminate, &Output::Discard, None).unwrap()
}

fn first_line(process: &Process) -> String {
    crate::wait_until(SOON, Duration::from_millis(5), || process.tail().first().cloned()).unwrap()
}

#[test]
fn the_last_words_of_a_process_are_kept() {
    let process = shell("for i in $(seq 30); do echo line $i; done; echo broken >&2; exit 3");
    assert_eq!(process.wait(SOON).unwrap().code(), Some(3));
    let tail = process.tail();
    assert_eq!(tail.len(), TAIL_LINES);
    assert!(tail.contains(&"line 30".to_owned()), "{tail:?}");
    assert!(tail.contains(&"broken".to_owned()), "{tail:?}");
}

#[test]
fn a_process_that_ignores_the_polite_signal_is_killed_with_its_children() {
    let process = shell("trap '' TERM; sleep 1000 & echo $!; while :; do wait; done");
    let child: u32 = first_line(&process).parse().unwrap();
    let child = Identity::of(child).unwrap();
    assert_eq!(process.stop(Duration::from_millis(200)), Stopped::Killed);
    assert!(!process.is_running());
    crate::wait_until(SOON, Duration::from_millis(5), || (!child.is_alive()).then_some(()))
        .unwrap();
}

/// Fails when the reaper does not sweep the group of a leader that has ended.
#[test]
fn children_do_not_outlive_the_leader_of_their_group() {
    let process = shell("sleep 1000 & echo $!; exit 0");
    let child: u32 = first_line(&process).parse().unwrap();
    assert!(process.wait(SOON).unwrap().success());
    crate::wait_until(SOON, Duration::from_millis(5), || {
        Identity::of(child).is_none().then_some(())
    })
    .unwrap();
}

#[test]
fn a_suspended_process_can_be_stopped() {
    let process = shell("echo up; while :; do sleep 0.01; done");
    first_line(&process);
    assert!(process.signal(Signal::SIGSTOP));
    assert_eq!(process.stop(SOON), Stopped::Gracefully);
    assert_eq!(process.stop(SOON), Stopped::AlreadyGone);
}
