//! Every way a process can end.

use std::net::TcpListener;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::collector::Collector;
use crate::tiny::Tiny;

/// Fails when the flush does not come after the end of the service: the span would wait
/// for a batch that never fills.
#[test]
fn spans_survive_every_end() {
    let check = |last: &str, code: i32| {
        let collector = Collector::start(0);
        let mut tiny =
            Tiny::start(&[&format!("--telemetry.otlp_endpoint={}", collector.endpoint())]);
        tiny.done("span work");
        tiny.tell(last);
        assert_eq!(tiny.end().code(), Some(code), "{last}: {:#?}", tiny.seen);
        assert_eq!(collector.names(), ["work"], "{last}");
        let service = collector.resource_attribute("service.name");
        assert!(service.is_some_and(|name| name.contains("tiny")), "{last}");
    };
    check("finish", 0);
    check("fail", 1);
    check("panic", 101);
}

#[test]
fn a_first_signal_stops_gracefully() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut tiny = Tiny::start(&[]);
        tiny.done("ready store");
        tiny.signal(signal);
        let line = tiny.wait_for("stopping");
        assert_eq!(line["fields"]["signal"], signal.as_str());
        tiny.tell("finish");
        assert_eq!(tiny.end().code(), Some(0), "{:#?}", tiny.seen);
    }
}

/// Also when every thread of the service is stuck, which is when somebody asks twice.
#[test]
fn a_second_signal_ends_at_once() {
    let check = |second: Signal, code: i32| {
        let mut tiny = Tiny::start(&[]);
        tiny.done("ready store");
        tiny.tell("block");
        tiny.signal(Signal::SIGTERM);
        tiny.wait_for("stopping");
        let asked = Instant::now();
        tiny.signal(second);
        assert_eq!(tiny.end().code(), Some(code), "{:#?}", tiny.seen);
        assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
    };
    check(Signal::SIGINT, 130);
    check(Signal::SIGTERM, 143);
}

/// Every cause once, in one line, and the words of the panic once.
#[test]
fn a_failure_is_one_line_with_its_causes() {
    let mut tiny = Tiny::start(&[]);
    tiny.tell("fail");
    assert_eq!(tiny.end().code(), Some(1));
    assert_eq!(tiny.lines_with("serve: reach the store: root cause"), 1, "{:#?}", tiny.seen);
    assert_eq!(tiny.lines_with("root cause"), 1, "{:#?}", tiny.seen);

    let mut tiny = Tiny::start(&[]);
    tiny.tell("panic");
    assert_eq!(tiny.end().code(), Some(101));
    assert_eq!(tiny.lines_with("told to"), 1, "{:#?}", tiny.seen);
}

/// With logging turned off a failure still says why, once.
#[test]
fn a_failure_is_told_even_without_a_log() {
    let check = |last: &str, words: &str| {
        let mut tiny = Tiny::start(&["--telemetry.log_filter=off"]);
        tiny.tell(last);
        tiny.end();
        assert_eq!(tiny.lines_with(words), 1, "{:#?}", tiny.seen);
    };
    check("fail", "error: serve: reach the store: root cause");
    check("panic", "told to");
}

/// The smallest settings for which a whole stop fits into five seconds.
const QUICK_STOP: [&str; 4] = [
    "--process.shutdown_timeout=5s",
    "--grpc.lame_duck=0s",
    "--grpc.drain_timeout=100ms",
    "--telemetry.flush_timeout=500ms",
];

/// A service that does not stop, a thread that never comes back and a collector that
/// says nothing, all at once: the process ends within its cap.
#[test]
fn the_whole_stop_is_capped() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("--telemetry.otlp_endpoint=http://{}", silent.local_addr().unwrap());
    let check = |last: Option<&str>| {
        let mut arguments = vec![endpoint.as_str()];
        arguments.extend(QUICK_STOP);
        let mut tiny = Tiny::start(&arguments);
        tiny.done("span work");
        if let Some(last) = last {
            tiny.tell(last);
        }
        let asked = Instant::now();
        tiny.signal(Signal::SIGTERM);
        assert_eq!(tiny.end().code(), Some(1), "{:#?}", tiny.seen);
        assert!(asked.elapsed() < Duration::from_secs(7), "{:?}", asked.elapsed());
        assert_eq!(tiny.lines_with("did not stop within 3.5s"), 1, "{:#?}", tiny.seen);
        assert_eq!(tiny.lines_with("spans were left behind"), 1, "{:#?}", tiny.seen);
    };
    check(None);
    check(Some("block"));
}
