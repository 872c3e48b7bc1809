//! Up, down, killed, interrupted: nothing stays behind and nothing committed is lost.

use std::process::Child;

use forebay_provision::postgres::query;
use forebay_provision::proc_table::{Identity, below};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::system::{System, identity, until};

fn signal(process: Identity, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), signal).unwrap();
}

fn port(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap()
}

fn assert_nothing_left(system: &System, processes: &[Identity]) {
    until("every process is gone", || processes.iter().all(|process| !process.is_alive()));
    until("no backend is left", || below(&system.root().join(".dev")).is_empty());
}

#[test]
fn detached_it_comes_up_seeded_is_shown_twice_and_goes_down() {
    let system = System::new();
    assert_eq!(system.status()["services"][0]["state"], "stopped");
    let told = system.run(&["dev", "--detach"]);
    assert!(told.contains("after the build"), "{told}");
    let status = system.status();
    for service in status["services"].as_array().unwrap() {
        assert_eq!(service["state"], "ready", "{status}");
    }
    let rows = query(port(&system.database_url()), "forebay", "select count(*) from tokens");
    assert_eq!(rows.unwrap(), [[Some("13053".to_owned())]]);
    let again = system.run(&["dev", "--detach"]);
    assert!(again.contains("it runs already"), "{again}");
    let exports = system.run(&["env"]);
    assert!(exports.contains(&system.database_url()), "{exports}");
    assert!(system.run(&["logs"]).contains("token-server"));

    let processes = system.processes();
    let down = system.run(&["down"]);
    assert!(down.contains("stopped pool-server, token-server"), "{down}");
    assert_nothing_left(&system, &processes);
}

/// Fails without the guard: nobody else is left to end what the supervisor started.
#[test]
fn a_killed_supervisor_leaves_nothing_and_the_next_start_has_the_committed_rows() {
    let system = System::new();
    system.run(&["dev", "--detach"]);
    let database = port(&system.database_url());
    query(database, "forebay", "create table kept as select 7 as n").unwrap();
    query(database, "forebay", "checkpoint").unwrap();
    let processes = system.processes();
    signal(identity(&system.state()["supervisor"]), Signal::SIGKILL);
    // At once, while the guard is still at work.
    system.run(&["dev", "--detach"]);
    until("the old processes are gone", || processes.iter().all(|process| !process.is_alive()));
    let rows = query(port(&system.database_url()), "forebay", "select n from kept");
    assert_eq!(rows.unwrap(), [[Some("7".to_owned())]]);

    let processes = system.processes();
    signal(identity(&system.state()["supervisor"]), Signal::SIGKILL);
    assert_nothing_left(&system, &processes);
    assert_eq!(system.status()["services"][0]["state"], "stopped");
}

#[test]
fn what_ends_by_itself_is_started_again() {
    let system = System::new();
    system.run(&["dev", "--detach"]);
    let group = |name: &str| {
        let state = system.state();
        let groups = state["groups"].as_array().unwrap();
        identity(&groups.iter().find(|group| group["name"] == name).unwrap()["leader"])
    };
    for name in ["token-server", "redis", "postgres"] {
        let before = group(name);
        signal(before, Signal::SIGKILL);
        until("it runs again", || group(name) != before && group(name).is_alive());
        until("the services are ready", || {
            let status = system.status();
            status["services"].as_array().unwrap().iter().all(|s| s["state"] == "ready")
        });
    }
    system.run(&["down"]);
}

#[test]
fn an_interrupt_a_second_one_and_a_closed_terminal_leave_nothing() {
    let cases: [&[Signal]; 4] = [
        &[Signal::SIGINT],
        &[Signal::SIGINT, Signal::SIGINT],
        &[Signal::SIGHUP],
        &[Signal::SIGTERM],
    ];
    let system = System::new();
    for signals in cases {
        let mut child: Child = system.foreground();
        let processes = system.processes();
        let supervisor = identity(&system.state()["supervisor"]);
        for sent in signals {
            signal(supervisor, *sent);
        }
        assert!(child.wait().unwrap().success(), "{signals:?}");
        assert_nothing_left(&system, &processes);
    }
}
