//! Every event is one line, and carries the ids of its span.

use std::io;
use std::sync::Arc;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use parking_lot::Mutex;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat, emit: impl FnOnce()) -> String {
    let lines = Lines::default();
    let writer = lines.clone();
    let tracers = SdkTracerProvider::builder().build();
    let subscriber = tracing_subscriber::registry()
        .with(layer_to(move || writer.clone(), false, format, "test"))
        .with(tracing_opentelemetry::layer().with_tracer(tracers.tracer("test")));
    tracing::subscriber::with_default(subscriber, emit);
    let bytes = lines.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_text_line_is_readable_and_stays_one_line() {
    let check = |emit: fn(), expected: &str| {
        let line = logged(LogFormat::Text, emit);
        let (_timestamp, rest) = line.split_once(' ').unwrap();
        assert_eq!(rest, format!("{expected}\n"));
    };
    check(|| tracing::info!(target: "t", "ready"), " INFO t: ready");
    check(|| tracing::warn!(target: "t", ms = 5, ok = true, "slow"), " WARN t: slow ms=5 ok=true");
    check(|| tracing::error!(target: "t", name = "a b", "x"), "ERROR t: x name=\"a b\"");
    check(|| tracing::info!(target: "t", name = "a=b", "x"), " INFO t: x name=\"a=b\"");
    // What a peer sent must not look like a line of ours.
    check(|| tracing::info!(target: "t", name = "a\nERROR", "x"), " INFO t: x name=\"a\\nERROR\"");
    check(|| tracing::info!(target: "t", "x{}y", "\n\x1b[31m"), " INFO t: x\\n\\u{1b}[31my");
}

#[test]
fn a_json_line_holds_everything_apart() {
    let line = logged(LogFormat::Json, || tracing::info!(attempt = 2, message = "a \"b\"\n"));
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["level"], "INFO");
    assert_eq!(value["service"], "test");
    assert_eq!(value["target"], module_path!());
    assert_eq!(value["message"], "a \"b\"\n");
    assert_eq!(value["fields"]["attempt"], 2);
    assert!(value["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(line.matches('\n').count(), 1);
}

#[test]
fn lines_carry_the_ids_of_the_innermost_span_and_none_outside() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let mut ids = Vec::new();
        let lines = logged(format, || {
            tracing::info!("outside");
            let outer = tracing::info_span!("outer");
            let _outer = outer.enter();
            let inner = tracing::info_span!("inner");
            let _inner = inner.enter();
            tracing::info!("inside");
            let context = Context::current();
            let context = context.span().span_context().clone();
            ids = vec![context.trace_id().to_string(), context.span_id().to_string()];
        });
        let lines: Vec<&str> = lines.lines().collect();
        assert!(!lines[0].contains("trace_id"), "{}", lines[0]);
        for id in &ids {
            assert!(lines[1].contains(id), "{} lacks {id}", lines[1]);
        }
    }
}

/// Per-layer filters remember an answer until the next event. A filter that answers
/// `enabled!` wrongly swallows the line after it.
#[test]
fn a_question_about_a_level_costs_no_line() {
    let lines = Lines::default();
    let writer = lines.clone();
    let (filter, _control) = crate::filter::logs("info").unwrap();
    let tracers = SdkTracerProvider::builder().build();
    let traces = tracing_opentelemetry::layer().with_tracer(tracers.tracer("test"));
    let subscriber = tracing_subscriber::registry()
        .with(layer_to(move || writer.clone(), false, LogFormat::Text, "test").with_filter(filter))
        .with(traces.with_filter(crate::filter::traces()));
    tracing::subscriber::with_default(subscriber, || {
        assert!(tracing::enabled!(Level::ERROR));
        tracing::error!("after");
    });
    let bytes = lines.0.lock().clone();
    assert!(String::from_utf8(bytes).unwrap().contains("after"));
}

#[test]
fn an_error_is_shown_with_its_causes() {
    #[derive(Debug, thiserror::Error)]
    #[error("load token")]
    struct Load {
        source: io::Error,
    }
    let error = Load { source: io::Error::other("no route") };
    let error: &dyn std::error::Error = &error;
    let line = logged(LogFormat::Text, || tracing::warn!(error, "x"));
    assert!(line.contains("error=\"load token: no route\""), "{line}");
}
