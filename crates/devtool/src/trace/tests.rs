//! The receiver with a real exporter's client, the store under kills and bounds, and what readers
//! print.

use std::fs;
use std::path::Path;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::store::{Limits, Store};
use super::{load, model, receiver, store, wait_and_draw, waterfall};

mod durability;
mod listing;

const MILLI: u64 = 1_000_000;
/// 2023-11-14T22:13:20Z.
const EPOCH: u64 = 1_700_000_000_000 * MILLI;

/// A span of trace `trace`: id, parent (0 for none), from and until in milliseconds.
fn span(trace: u8, id: u8, parent: u8, name: &str, from: u64, until: u64) -> Span {
    Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: EPOCH + from * MILLI,
        end_time_unix_nano: EPOCH + until * MILLI,
        ..Span::default()
    }
}

fn with(mut span: Span, attributes: &[(&str, &str)]) -> Span {
    span.attributes = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    span
}

fn failed(mut span: Span, message: &str) -> Span {
    span.status = Some(Status { message: message.to_owned(), code: 2 });
    span
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn export(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let resource =
        Resource { attributes: vec![attribute("service.name", service)], ..Resource::default() };
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans,
            ..ResourceSpans::default()
        }],
    }
}

/// A call through two services: trace 0xaa, in three exports and out of order.
fn exports() -> Vec<ExportTraceServiceRequest> {
    let mut call = span(0xaa, 3, 1, "forebay.token.v1.TokenService/LookupToken", 1, 9);
    call.kind = SpanKind::Client.into();
    let grpc = ("rpc.system.name", "grpc");
    let select = failed(span(0xaa, 5, 4, "SELECT tokens", 3, 7), "");
    vec![
        export(
            "token-server",
            vec![
                with(
                    select,
                    &[
                        ("db.system.name", "postgresql"),
                        ("db.query.text", "SELECT *\n  FROM tokens"),
                        ("db.response.status_code", "57014"),
                        ("error.type", "statement_timeout"),
                    ],
                ),
                with(
                    span(0xaa, 6, 4, "cache.get token", 2, 3),
                    &[("forebay.cache.outcome", "loaded")],
                ),
            ],
        ),
        export(
            "pool-server",
            vec![
                with(call, &[grpc]),
                with(
                    span(0xaa, 1, 0, "forebay.pool.v1.PoolService/CreatePool", 0, 10),
                    &[("rpc.status_code", "OK")],
                ),
                span(0xbb, 1, 0, "startup", 5_000, 5_001),
            ],
        ),
        export("token-server", vec![span(0xaa, 4, 3, "LookupToken", 2, 8)]),
    ]
}

fn stored(dir: &Path, exports: &[ExportTraceServiceRequest]) {
    let mut store = Store::open(dir, Limits::DEFAULT).unwrap();
    for export in exports {
        store.append(export).unwrap();
    }
}

#[tokio::test]
async fn what_an_exporter_sends_is_read_while_the_receiver_runs() {
    let dir = tempfile::tempdir().unwrap();
    let receiver = receiver::start("127.0.0.1:0".parse().unwrap(), dir.path()).await.unwrap();
    let endpoint = format!("http://{}", receiver.address());
    let mut client = TraceServiceClient::connect(endpoint).await.unwrap();
    for export in exports() {
        client.export(export).await.unwrap();
    }
    let traces = load(dir.path()).unwrap();
    let read: Vec<_> = traces.iter().map(|trace| (&trace.id[..2], trace.spans.len())).collect();
    assert_eq!(read, [("bb", 1), ("aa", 5)]);
    receiver.stop().await.unwrap();
}

#[test]
fn the_waterfall_shows_who_did_what_and_how_it_ended() {
    let traces = model::assemble(exports());
    let drawn = waterfall::draw(&traces[1]);
    let expected = [
        "trace aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa  2023-11-14T22:13:20.000Z  10.0 ms  5 spans  1 failed  pool-server, token-server",
        "",
        "pool-server   forebay.pool.v1.PoolService/CreatePool        0.000 ms    10.0 ms  ████████████████████████  OK",
        "pool-server     forebay.token.v1.TokenService/LookupToken   1.000 ms   8.000 ms  ··███████████████████···",
        "token-server      LookupToken                               2.000 ms   6.000 ms  ····███████████████·····",
        "token-server        cache.get token                         2.000 ms   1.000 ms  ····███·················  cache loaded",
        "token-server        SELECT tokens                           3.000 ms   4.000 ms  ·······█████████········  FAILED  sqlstate 57014  postgresql: SELECT * FROM tokens  statement_timeout",
    ];
    assert_eq!(drawn.lines().collect::<Vec<_>>(), expected, "\n{drawn}");
}

#[test]
fn a_trace_is_complete_when_both_halves_of_every_call_are_there() {
    let own = "0101010101010101";
    let all = exports();
    // Without its last export the call has no other half; without the first two, no top.
    let cases = [(0..3, true), (0..2, false), (1..2, false), (2..3, false)];
    for (range, complete) in cases {
        let traces = model::assemble(all[range.clone()].to_vec());
        let trace = traces.iter().find(|trace| trace.id.starts_with("aa")).unwrap();
        assert_eq!(trace.is_complete(own), complete, "{range:?}");
    }
    let mut call = span(0xcc, 2, 1, "call", 0, 1);
    call.kind = SpanKind::Client.into();
    for (status, complete) in [("UNAVAILABLE", true), ("NOT_FOUND", false)] {
        let call = with(call.clone(), &[("rpc.system.name", "grpc"), ("rpc.status_code", status)]);
        let traces = model::assemble(vec![export("x", vec![call])]);
        assert_eq!(traces[0].is_complete(own), complete, "{status}");
        assert!(!traces[0].is_complete("another parent"));
    }
}

#[tokio::test]
async fn waiting_for_a_trace_ends_with_it_or_with_the_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let id = "aa".repeat(16);
    let none = wait_and_draw(dir.path(), &id, "", Duration::ZERO).await.unwrap_err();
    assert!(none.to_string().contains("no span of trace aa"), "{none}");
    stored(dir.path(), &exports()[..2]);
    let part = wait_and_draw(dir.path(), &id, "", Duration::ZERO).await.unwrap();
    assert!(part.ends_with("incomplete: a service has not exported yet\n"), "{part}");
    stored(dir.path(), &exports()[2..]);
    let whole = wait_and_draw(dir.path(), &id, "", Duration::ZERO).await.unwrap();
    assert!(whole.contains("SELECT tokens") && !whole.contains("incomplete"), "{whole}");
}

#[test]
fn exports_that_are_sent_again_count_once() {
    let twice = [exports(), exports()].concat();
    let traces = model::assemble(twice);
    assert_eq!(traces.iter().map(|trace| trace.spans.len()).sum::<usize>(), 6);
}

#[test]
fn spans_that_are_each_others_parents_are_drawn_once() {
    let knot = export(
        "x",
        vec![span(1, 1, 2, "one", 0, 1), span(1, 2, 1, "two", 0, 1), span(1, 3, 3, "own", 0, 1)],
    );
    let drawn = waterfall::draw(&model::assemble(vec![knot])[0]);
    for name in ["one", "two", "own"] {
        assert_eq!(drawn.matches(&format!(" {name} ")).count(), 1, "{drawn}");
    }
}

#[test]
fn a_folder_that_does_not_exist_holds_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    assert!(store::read(&dir.path().join("none")).unwrap().is_empty());
    fs::write(dir.path().join("note.txt"), "not ours").unwrap();
    assert!(store::read(dir.path()).unwrap().is_empty());
}
