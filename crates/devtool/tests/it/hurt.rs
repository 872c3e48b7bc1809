//! Up, down, killed, interrupted: nothing stays behind and nothing committed is lost.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use forebay_provision::Stopwatch;
use forebay_provision::postgres::query;
use forebay_provision::proc_table::{Identity, below};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value as Json;

use crate::system::{System, identity, text_variable, until};

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

    shows_its_connection_pools(&system);

    let processes = system.processes();
    let down = system.run(&["down"]);
    assert!(down.contains("stopped pool-server, token-server"), "{down}");
    assert_nothing_left(&system, &processes);
    let refused = system.command(&["pools"]).output().unwrap();
    assert!(!refused.status.success());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("does not run: `cargo xtask dev` starts it"), "{told}");
}

/// Both services, both stores, in the form for people and in that for programs; a watch goes on
/// until nobody reads.
fn shows_its_connection_pools(system: &System) {
    let table = system.run(&["pools"]);
    for row in ["token-server/postgres", "pool-server/postgres", "pool-server/redis"] {
        assert!(table.contains(row), "{table}");
    }
    let mut watch =
        system.command(&["pools", "--watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for service in ["token-server", "pool-server", "token-server", "pool-server"] {
        let line = lines.next().unwrap().unwrap();
        let pools: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(pools["service"], service, "{line}");
        assert_eq!(pools["redis"][0]["status"], "ready", "{line}");
        assert_eq!(pools["redis"][0]["connected"], true, "{line}");
        assert_eq!(pools["redis"][0]["offline_queue_length"], 0, "{line}");
        assert!(pools["redis"][0]["command_queue_length"].is_u64(), "{line}");
        assert!(pools["postgres"][0]["connections"].as_u64() > Some(0), "{line}");
    }
    drop(lines);
    assert!(watch.wait().unwrap().success());
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
    for name in ["token-server", "redis", "postgres"] {
        let before = system.group(name);
        signal(before, Signal::SIGKILL);
        until("it runs again", || system.group(name) != before && system.group(name).is_alive());
        until("the services are ready", || {
            let status = system.status();
            status["services"].as_array().unwrap().iter().all(|s| s["state"] == "ready")
        });
    }
    system.run(&["down"]);
}

#[test]
fn an_interrupt_a_closed_terminal_and_a_polite_kill_leave_nothing() {
    let system = System::new();
    for sent in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGTERM] {
        let mut child: Child = system.foreground();
        let processes = system.processes();
        signal(identity(&system.state()["supervisor"]), sent);
        assert!(child.wait().unwrap().success(), "{sent}");
        assert_nothing_left(&system, &processes);
    }
}

#[test]
fn an_interrupt_while_the_stores_start_leaves_nothing() {
    let system = System::new();
    let work = system.root().join(".dev");
    // The first is interrupted while a new database is made, the others while one is opened.
    for _ in 0..3 {
        let mut child = system.command(&["dev"]).stdout(Stdio::null()).spawn().unwrap();
        until("a store starts", || !below(&work).is_empty());
        let started = below(&work);
        let supervisor = Pid::from_raw(i32::try_from(child.id()).unwrap());
        kill(supervisor, Signal::SIGINT).unwrap();
        assert!(child.wait().unwrap().success());
        // At once: the end of the supervisor is the end of everything.
        assert_eq!(below(&work), [], "started before: {started:?}");
    }
}

/// Fails when the second interrupt does not shorten the 15 s that a service has to stop.
#[test]
fn a_second_interrupt_does_not_wait_for_a_service_that_hangs() {
    const WELL_BEFORE_THE_GRACE: Duration = Duration::from_secs(8);
    let system = System::new();
    system.make_hang("pool-server");
    let mut child: Child = system.foreground();
    let processes = system.processes();
    let supervisor = identity(&system.state()["supervisor"]);
    signal(supervisor, Signal::SIGINT);
    // Two at once could become one.
    until("it is stopping", || system.state()["phase"] == "stopping");
    let watch = Stopwatch::start();
    signal(supervisor, Signal::SIGINT);
    assert!(child.wait().unwrap().success());
    assert!(watch.elapsed() < WELL_BEFORE_THE_GRACE, "{:?}", watch.elapsed());
    assert_nothing_left(&system, &processes);
}

#[test]
fn two_starts_at_once_share_one_instance() {
    let system = System::new();
    let start = || {
        let mut command = system.command(&["dev", "--detach"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut both = [start(), start()];
    for child in &mut both {
        assert!(child.wait().unwrap().success());
    }
    let processes = system.processes();
    system.run(&["down"]);
    assert_nothing_left(&system, &processes);
}

/// Fails when what the user named counts as ours the second time, and is passed over.
#[test]
fn what_the_environment_names_is_used_every_time() {
    let system = System::new();
    let server = port(&text_variable("FOREBAY_TEST_POSTGRES_URL"));
    let database = format!("named_{}", std::process::id());
    query(server, "postgres", &format!("create database {database}")).unwrap();
    let named = [
        ("DATABASE_URL", format!("postgres://postgres@127.0.0.1:{server}/{database}")),
        ("REDIS_URL", text_variable("FOREBAY_TEST_REDIS_URL")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9".to_owned()),
    ];
    for _ in 0..2 {
        system.run_with(&named, &["dev", "--detach"]);
        let backends = &system.state()["backends"];
        for store in ["postgres", "redis", "traces"] {
            assert_eq!(backends[store]["source"], "environment", "{store}: {backends}");
        }
        assert_eq!(backends["postgres"]["url"], named[0].1, "{backends}");
        assert_eq!(backends["redis"]["url"], named[1].1, "{backends}");
        system.run(&["down"]);
    }
    query(server, "postgres", &format!("drop database {database} with (force)")).unwrap();
}
