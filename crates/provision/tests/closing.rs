//! The end of a process whose threads still start others. It can be tried once in a process, so this
//! program has one test.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use forebay_provision::{Output, Process, ProvisionError, StopSignal, guard, wait_until};

/// Long enough for a slow machine, and never waited for in full unless the test fails.
const SOON: Duration = Duration::from_secs(20);

/// Threads that start processes until they are refused.
const STARTERS: usize = 4;

fn start() -> Result<Process, ProvisionError> {
    let mut command = Command::new("sleep");
    command.arg("1000");
    Process::spawn(command, StopSignal::Terminate, &Output::Discard, None)
}

/// Fails when a process can be started after the end has begun, or between the last look of the
/// guard and the end.
#[test]
fn whoever_ends_leaves_nothing_and_starts_nothing() {
    let program = std::env::var_os(guard::PROGRAM_ENV);
    assert!(program.is_some(), "{} is not set: run `cargo xtask test`", guard::PROGRAM_ENV);
    let closed = Arc::new(AtomicBool::new(false));
    let (sender, started) = mpsc::channel();
    let starters: Vec<_> = (0..STARTERS)
        .map(|_| {
            let (sender, closed) = (sender.clone(), Arc::clone(&closed));
            std::thread::spawn(move || {
                loop {
                    let last = closed.load(Ordering::Relaxed);
                    match start() {
                        Ok(process) => sender.send(process).unwrap(),
                        Err(error) => return Some(error),
                    }
                    if last {
                        return None;
                    }
                }
            })
        })
        .collect();
    drop(sender);
    // They are at work when the first process is there.
    let mut processes = vec![started.recv_timeout(SOON).unwrap()];
    guard::close();
    closed.store(true, Ordering::Relaxed);
    // Dropping one would end it, so each is kept until all were looked at.
    processes.extend(started);
    for starter in starters {
        let end = starter.join().unwrap();
        assert!(matches!(end, Some(ProvisionError::Closing)), "{end:?}");
    }
    let gone = || processes.iter().all(|process| !process.is_running()).then_some(());
    let left = || processes.iter().filter(|process| process.is_running()).count();
    assert!(
        wait_until(SOON, Duration::from_millis(5), gone).is_some(),
        "{} of {} are left",
        left(),
        processes.len()
    );
}
