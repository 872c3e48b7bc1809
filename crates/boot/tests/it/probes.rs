//! The operators' port through the life of a process.

use nix::sys::signal::Signal;

use crate::tiny::{Tiny, get};

#[test]
fn probes_follow_the_components_from_start_to_drain() {
    let mut tiny = Tiny::start(&[]);
    let ops = tiny.ops();
    let check = |state: &str, live: u16, started: u16, ready: u16| {
        for (path, status) in [("/livez", live), ("/startupz", started), ("/readyz", ready)] {
            let answer = get(ops, path);
            assert_eq!(answer.status, status, "{path} while {state}");
            assert_eq!(answer.content_type, "application/json");
            assert_eq!(answer.json()["state"], state, "{path}");
            assert_eq!(answer.json()["service"], "tiny");
        }
    };
    check("starting", 200, 503, 503);
    // The cache is optional: the process starts without it, and shows it.
    tiny.done("ready store");
    check("degraded", 200, 200, 200);
    tiny.done("ready cache");
    check("ready", 200, 200, 200);
    // A store that goes away later does not take the process out of rotation.
    tiny.done("degrade store no route to host");
    check("degraded", 200, 200, 200);
    let body = get(ops, "/readyz").json();
    let components = body["components"].as_array().unwrap();
    let store = components.iter().find(|component| component["name"] == "store").unwrap();
    assert_eq!(store["state"], "degraded");
    assert_eq!(store["reason"], "no route to host");
    assert_eq!(store["required"], true);
    tiny.done("ready store");
    check("ready", 200, 200, 200);

    tiny.signal(Signal::SIGTERM);
    tiny.wait_for("stopping");
    // The service still drains, and probes see it.
    tiny.done("span draining");
    check("draining", 200, 200, 503);
    tiny.tell("finish");
    assert_eq!(tiny.end().code(), Some(0), "{:#?}", tiny.seen);
}

#[test]
fn metrics_are_openmetrics() {
    let mut tiny = Tiny::start(&[]);
    let ops = tiny.ops();
    let answer = get(ops, "/metrics");
    assert_eq!(answer.status, 200);
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.content_type, expected);
    assert!(answer.body.ends_with("# EOF\n"), "{}", answer.body);
    assert!(answer.body.contains("service_name=\"tiny\""), "{}", answer.body);
    assert_eq!(get(ops, "/nothing").status, 404);
}

/// One line names the port and the setting; without it an operator greps the source.
#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut tiny = Tiny::start(&[&format!("--ops.listen={address}")]);
    assert_eq!(tiny.end().code(), Some(1));
    let expected =
        format!("listen for operators on {address} (ops.listen): Address already in use");
    assert_eq!(tiny.lines_with(&expected), 1, "{:#?}", tiny.seen);
}

/// A job runs beside the servers with the same settings, so it must not want their port.
#[test]
fn a_job_opens_no_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("--ops.listen={}", taken.local_addr().unwrap());
    let mut command = crate::tiny::command(&[&listen, "--telemetry.log_format=json"]);
    let mut tiny = Tiny::spawn(command.env("TINY_JOB", "1"));
    tiny.done("span work");
    tiny.tell("finish");
    assert_eq!(tiny.end().code(), Some(0), "{:#?}", tiny.seen);
    assert_eq!(tiny.lines_with("grpc.page_token_key"), 0, "{:#?}", tiny.seen);
}
