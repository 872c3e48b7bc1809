//! Spans reach a collector, and a collector that is away costs nothing but spans.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::{Invocation, TelemetryConfig};
use forebay_telemetry::{FlushError, Telemetry, build};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::Dispatch;
use tracing::dispatcher::with_default;
use tracing::field::{Field, Visit};

use crate::collector::Collector;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn telemetry(settings: &[(&str, &str)]) -> (Telemetry, Dispatch) {
    let arguments = settings.iter().map(|(key, value)| format!("--telemetry.{key}={value}"));
    let none: [(&str, &str); 0] = [];
    let loaded =
        forebay_config::load("test", &Invocation::new(arguments, none)).expect("valid settings");
    let config: TelemetryConfig = loaded.config.telemetry;
    build(&config, "test").expect("start telemetry")
}

/// Fails without the flush: the spans wait for a batch that never fills.
#[test]
fn a_flush_sends_what_ended_with_parents_and_resource() {
    let collector = Collector::start(0);
    let (telemetry, dispatch) = telemetry(&[("otlp_endpoint", &collector.endpoint())]);
    with_default(&dispatch, || {
        let _outer = tracing::info_span!("outer", db.system.name = "postgresql").entered();
        let _inner = tracing::info_span!("inner", otel.name = "SELECT tokens").entered();
    });
    telemetry.flush(PATIENCE).unwrap();

    assert_eq!(collector.names(), ["SELECT tokens", "outer"]);
    let spans = collector.spans();
    assert_eq!(spans[0].parent_span_id, spans[1].span_id);
    assert_eq!(spans[0].trace_id, spans[1].trace_id);
    let attributes: Vec<&str> = spans[1].attributes.iter().map(|a| a.key.as_str()).collect();
    assert_eq!(attributes, ["db.system.name"]);
    for key in ["service.name", "service.version", "service.instance.id"] {
        assert!(collector.resource_attribute(key).is_some(), "no {key}");
    }
}

/// The export would feed itself for ever if its own work were traced: a second flush
/// after everything was sent must find nothing.
#[test]
fn the_export_is_not_traced() {
    let collector = Collector::start(0);
    let endpoint = collector.endpoint();
    let (telemetry, dispatch) = telemetry(&[("otlp_endpoint", &endpoint), ("log_filter", "off")]);
    with_default(&dispatch, || {
        for target_is_machinery in [true, false] {
            if target_is_machinery {
                tracing::info_span!(target: "h2::client", "machinery").in_scope(|| {});
                tracing::info_span!(target: "tonic", "machinery").in_scope(|| {});
                tracing::debug_span!("detail").in_scope(|| {});
            } else {
                tracing::info_span!("ours").in_scope(|| {});
            }
        }
    });
    for _ in 0..3 {
        telemetry.flush(PATIENCE).unwrap();
    }
    assert_eq!(collector.names(), ["ours"]);
}

/// Fails when batches are lost with the export that failed, or when every failed export
/// writes a line.
#[test]
fn a_collector_that_comes_back_gets_the_spans_and_each_change_is_one_line() {
    let port = free_port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let events = Events { endpoint: endpoint.clone(), seen: Arc::default() };
    // The export thread knows the global subscriber only.
    tracing::subscriber::set_global_default(events.clone()).unwrap();
    let (telemetry, dispatch) = telemetry(&[("otlp_endpoint", &endpoint)]);
    with_default(&dispatch, || tracing::info_span!("early").in_scope(|| {}));
    for _ in 0..3 {
        assert_eq!(telemetry.flush(PATIENCE), Err(FlushError::Rejected { spans: 1 }));
    }
    assert_eq!(events.seen(), ["trace export fails"]);

    let collector = Collector::start(port);
    with_default(&dispatch, || tracing::info_span!("late").in_scope(|| {}));
    let deadline = Instant::now() + PATIENCE;
    while telemetry.flush(PATIENCE).is_err() {
        assert!(Instant::now() < deadline, "the collector is back, the export is not");
    }
    assert_eq!(collector.names(), ["early", "late"]);
    assert_eq!(events.seen(), ["trace export fails", "trace export works again"]);
}

/// A flush that waited for a dead collector would hang every exit.
#[test]
fn a_dead_collector_does_not_hold_up_a_flush() {
    let check = |endpoint: String, expected: fn(&FlushError) -> bool| {
        let (telemetry, dispatch) = telemetry(&[("otlp_endpoint", &endpoint)]);
        with_default(&dispatch, || tracing::info_span!("lost").in_scope(|| {}));
        let started = Instant::now();
        let error = telemetry.flush(Duration::from_millis(500)).unwrap_err();
        assert!(expected(&error), "{endpoint}: {error:?}");
        drop(telemetry);
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(3), "{endpoint}: {elapsed:?}");
    };
    let refuses = format!("http://127.0.0.1:{}", free_port());
    check(refuses, |error| matches!(error, FlushError::Rejected { spans: 1 }));
    // It accepts by its backlog and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hangs = format!("http://{}", silent.local_addr().unwrap());
    check(hangs, |error| matches!(error, FlushError::TimedOut { .. }));
}

/// Ending a span never waits: with a silent collector and a full queue, spans are
/// dropped and counted.
#[test]
fn a_full_queue_drops_and_counts() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = [("otlp_endpoint", endpoint.as_str()), ("span_queue_max", "64")];
    let (telemetry, dispatch) = telemetry(&settings);
    let started = Instant::now();
    with_default(&dispatch, || {
        for _ in 0..10_000 {
            tracing::info_span!("span").in_scope(|| {});
        }
    });
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // One batch of at most the whole queue may be on its way.
    let dropped = telemetry.handle().spans_dropped();
    assert!((10_000 - 2 * 64..10_000).contains(&dropped), "{dropped}");
}

/// A port that was free a moment ago and that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .expect("listen on loopback")
        .local_addr()
        .expect("a listener has an address")
        .port()
}

/// A subscriber that keeps the messages about one endpoint.
#[derive(Debug, Clone)]
struct Events {
    endpoint: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Events {
    fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }
}

/// The message and the endpoint of one event.
#[derive(Default)]
struct Seen {
    message: String,
    endpoint: String,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "endpoint" {
            value.clone_into(&mut self.endpoint);
        }
    }
}

impl tracing::Subscriber for Events {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("forebay_telemetry")
    }

    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut seen = Seen::default();
        event.record(&mut seen);
        if seen.endpoint == self.endpoint {
            self.seen.lock().push(seen.message);
        }
    }

    fn enter(&self, _span: &tracing::span::Id) {}

    fn exit(&self, _span: &tracing::span::Id) {}
}
