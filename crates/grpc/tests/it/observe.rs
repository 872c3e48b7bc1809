//! Spans, metrics and log lines of calls, as an operator gets them.

use std::sync::{Arc, LazyLock};

use opentelemetry::trace::{SpanId, SpanKind, Status as SpanStatus, TraceId};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use parking_lot::Mutex;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tracing_subscriber::layer::SubscriberExt as _;

use forebay_grpc::client;

use crate::harness::{Running, Script, client_config, config, get, soon};

/// Where the spans, metrics and log lines of this process go.
///
/// They are global, so all tests share them and tell theirs apart by trace id,
/// port or request id. Each server waits for them: a log line that is reached
/// while the subscriber is being installed may stay off for good.
pub(crate) static TELEMETRY: LazyLock<Collected> = LazyLock::new(Collected::install);

pub(crate) struct Collected {
    spans: InMemorySpanExporter,
    metrics: InMemoryMetricExporter,
    meters: SdkMeterProvider,
    log: AccessLog,
}

impl Collected {
    fn install() -> Self {
        let spans = InMemorySpanExporter::default();
        let tracers = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        global::set_tracer_provider(tracers);
        let metrics = InMemoryMetricExporter::default();
        let meters = SdkMeterProvider::builder().with_periodic_exporter(metrics.clone()).build();
        global::set_meter_provider(meters.clone());
        let log = AccessLog::default();
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone()))
            .expect("the only subscriber");
        Self { spans, metrics, meters, log }
    }
}

/// A request that continues `trace_id`.
fn traced(id: &str, trace_id: &str) -> Request<forebay_proto::token::v1::GetTokenRequest> {
    let mut request = Request::new(get(id));
    let parent = format!("00-{trace_id}-b7ad6b7169203331-01");
    request.metadata_mut().insert("traceparent", parent.parse().expect("a value"));
    request
}

/// The finished spans of one trace, in the order in which they ended.
fn spans_of(trace_id: &str) -> Vec<SpanData> {
    let trace_id = TraceId::from_hex(trace_id).expect("an id");
    let spans = TELEMETRY.spans.get_finished_spans().expect("the exporter runs");
    spans.into_iter().filter(|span| span.span_context.trace_id() == trace_id).collect()
}

/// Waits for the one span of a trace; the code with which its call ended.
pub(crate) async fn code_of_span(trace_id: &str) -> String {
    soon(async {
        loop {
            if let [span] = spans_of(trace_id).as_slice() {
                return attribute(&span.attributes, "rpc.status_code").expect("a code");
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|one| one.key.as_str() == key).map(|one| one.value.to_string())
}

/// Fails when `traceparent` is not read, or the conventions' names are not used.
#[tokio::test]
async fn the_span_of_a_call_continues_the_callers_trace() {
    let server = Running::start(config(), Script::default()).await;
    for (trace_id, id, code, failed) in [
        ("0af7651916cd43dd8448eb211c800001", "seen", Code::Ok, false),
        ("0af7651916cd43dd8448eb211c800002", "not_found", Code::NotFound, false),
        ("0af7651916cd43dd8448eb211c800003", "internal", Code::Internal, true),
        ("0af7651916cd43dd8448eb211c800004", "panic", Code::Internal, true),
    ] {
        let reply = soon(server.client().await.get_token(traced(id, trace_id))).await;
        let headers = match &reply {
            Ok(reply) => reply.metadata(),
            Err(status) => status.metadata(),
        };
        assert_eq!(headers.get("x-trace-id").expect("a trace id"), trace_id);

        let spans = spans_of(trace_id);
        let [span] = spans.as_slice() else { panic!("one span, not {spans:?}") };
        assert_eq!(span.name, "forebay.token.v1.TokenService/GetToken");
        assert_eq!(span.span_kind, SpanKind::Server);
        assert_eq!(span.parent_span_id, SpanId::from_hex("b7ad6b7169203331").expect("an id"));
        assert!(span.parent_span_is_remote);
        assert_eq!(matches!(span.status, SpanStatus::Error { .. }), failed, "{id}");
        let name = forebay_grpc::error::code_name(code);
        for (key, value) in [
            ("rpc.system.name", Some("grpc".to_owned())),
            ("rpc.method", Some("forebay.token.v1.TokenService/GetToken".to_owned())),
            ("rpc.status_code", Some(name.to_owned())),
            ("error.type", failed.then(|| name.to_owned())),
            ("server.address", Some("127.0.0.1".to_owned())),
            ("server.port", Some(server.address.port().to_string())),
            ("network.peer.address", Some("127.0.0.1".to_owned())),
        ] {
            assert_eq!(attribute(&span.attributes, key), value, "{key} of {id}");
        }
    }
}

/// Fails when the client's span is not below the handler's, or is not sent on.
#[tokio::test]
async fn one_trace_spans_every_hop() {
    let trace_id = "0af7651916cd43dd8448eb211c800005";
    let last = Running::start(config(), Script::default()).await;
    let next = client::connect(&client_config(last.address)).expect("an address");
    let script = Script { next: Some(next), ..Script::default() };
    let first = Running::start(config(), script).await;
    let mut request = traced("chain:not_found", trace_id);
    request.metadata_mut().insert("x-request-id", "order-7".parse().expect("a value"));
    let status = soon(first.client().await.get_token(request)).await.expect_err("not found");
    assert_eq!(status.metadata().get("x-request-id").expect("an id"), "order-7");

    let spans = spans_of(trace_id);
    let [inner, between, outer] = spans.as_slice() else { panic!("three spans, not {spans:?}") };
    assert_eq!(between.span_kind, SpanKind::Client);
    assert_eq!(inner.parent_span_id, between.span_context.span_id());
    assert_eq!(between.parent_span_id, outer.span_context.span_id());
    // To its caller any error is a failure, to the server this one is an answer.
    assert!(matches!(between.status, SpanStatus::Error { .. }));
    assert_eq!(attribute(&between.attributes, "error.type").as_deref(), Some("NOT_FOUND"));
    assert_eq!(inner.status, SpanStatus::Unset);
}

/// Fails when a caller's decision not to record is overruled.
#[tokio::test]
async fn an_unsampled_trace_stays_unsampled() {
    let server = Running::start(config(), Script::default()).await;
    let trace_id = "0af7651916cd43dd8448eb211c800006";
    let mut request = Request::new(get("seen"));
    let parent = format!("00-{trace_id}-b7ad6b7169203331-00");
    request.metadata_mut().insert("traceparent", parent.parse().expect("a value"));
    let reply = soon(server.client().await.get_token(request)).await.expect("an answer");
    assert_eq!(reply.metadata().get("x-trace-id").expect("a trace id"), trace_id);
    assert_eq!(spans_of(trace_id).len(), 0);
}

/// Fails when probes flood the traces, or when one that is traced is not.
#[tokio::test]
async fn a_probe_starts_no_trace_but_continues_one() {
    let server = Running::start(config(), Script::default()).await;
    let trace_id = "0af7651916cd43dd8448eb211c800007";
    for parent in [None, Some(trace_id)] {
        let mut request = Request::new(HealthCheckRequest::default());
        if let Some(parent) = parent {
            let parent = format!("00-{parent}-b7ad6b7169203331-01");
            request.metadata_mut().insert("traceparent", parent.parse().expect("a value"));
        }
        let reply = soon(HealthClient::new(server.channel().await).check(request)).await;
        let reply = reply.expect("an answer");
        let returned = reply.metadata().get("x-trace-id").map(|id| id.to_str().expect("text"));
        assert_eq!(returned, parent);
    }
    assert_eq!(spans_of(trace_id).len(), 1);
}

/// Fails when the id of a request is not taken, made, or passed on.
#[tokio::test]
async fn the_request_id_goes_all_the_way() {
    let last = Running::start(config(), Script::default()).await;
    let next = client::connect(&client_config(last.address)).expect("an address");
    let script = Script { next: Some(next), ..Script::default() };
    let first = Running::start(config(), script).await;
    for given in [Some("order-8"), None, Some("with blanks")] {
        let mut request = Request::new(get("chain:seen"));
        if let Some(given) = given {
            request.metadata_mut().insert("x-request-id", given.parse().expect("a value"));
        }
        let reply = soon(first.client().await.get_token(request)).await.expect("an answer");
        let returned = reply.metadata().get("x-request-id").expect("an id").clone();
        let returned = returned.to_str().expect("text");
        let seen = reply.into_inner().token.expect("a token").symbol;
        assert_eq!(seen, returned, "the last handler saw another id");
        assert_eq!(given == Some(returned), given == Some("order-8"), "{given:?} {returned}");
    }
}

/// The number of calls with `code` that the duration metric `name` counted.
fn counted(name: &str, port: u16, code: &str) -> u64 {
    let Collected { metrics, meters, .. } = &*TELEMETRY;
    meters.force_flush().expect("the reader runs");
    let exports = metrics.get_finished_metrics().expect("the exporter runs");
    let last = exports.last().expect("an export");
    let found = last.scope_metrics().flat_map(|scope| scope.metrics());
    let metric = found.into_iter().find(|metric| metric.name() == name).expect("the metric");
    assert_eq!(metric.unit(), "s");
    let AggregatedMetrics::F64(MetricData::Histogram(histogram)) = metric.data() else {
        panic!("{name} is no histogram");
    };
    let points = histogram.data_points().filter(|point| {
        let attributes: Vec<_> = point.attributes().cloned().collect();
        let of_peer = attribute(&attributes, "server.port").is_none_or(|of| of == port.to_string());
        of_peer && attribute(&attributes, "rpc.status_code").as_deref() == Some(code)
    });
    points.map(|point| point.count()).sum()
}

#[tokio::test]
async fn durations_are_counted_by_code() {
    let server = Running::start(config(), Script::default()).await;
    let port = server.address.port();
    let before = counted_or_zero("rpc.server.call.duration", port, "NOT_FOUND");
    for _ in 0..3 {
        soon(server.kit_client().get_token(get("not_found"))).await.expect_err("not found");
    }
    assert_eq!(counted("rpc.client.call.duration", port, "NOT_FOUND"), 3);
    assert!(counted("rpc.server.call.duration", port, "NOT_FOUND") >= before + 3);
}

/// Before the first call the metric is not there.
fn counted_or_zero(name: &str, port: u16, code: &str) -> u64 {
    std::panic::catch_unwind(|| counted(name, port, code)).unwrap_or_default()
}

/// Collects the access log.
#[derive(Clone, Default)]
struct AccessLog(Arc<Mutex<Vec<String>>>);

impl AccessLog {
    /// Takes the lines of one request.
    fn take(&self, request_id: &str) -> Vec<String> {
        let of_request = format!("request_id={request_id:?}");
        let mut lines = self.0.lock();
        lines.extract_if(.., |line| line.contains(&of_request)).collect()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for AccessLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields(Vec<String>);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if matches!(field.name(), "rpc.method" | "rpc.status_code" | "request_id") {
                    self.0.push(format!("{}={value:?}", field.name()));
                }
            }
        }
        if event.metadata().target() == "forebay_grpc::access" {
            let mut fields = Fields(vec![event.metadata().level().to_string()]);
            event.record(&mut fields);
            self.0.lock().push(fields.0.join(" "));
        }
    }
}

/// Fails when a call leaves no line, or more than one.
#[tokio::test]
async fn every_call_leaves_one_line() {
    let server = Running::start(config(), Script::default()).await;
    let mut client = server.client().await;
    for (id, level, code) in
        [("seen", "DEBUG", "OK"), ("not_found", "INFO", "NOT_FOUND"), ("panic", "WARN", "INTERNAL")]
    {
        let request_id = format!("line-{id}");
        drop(soon(client.get_token(labelled(id, &request_id))).await);
        let method = "rpc.method=\"forebay.token.v1.TokenService/GetToken\"";
        let line = format!("{level} {method} rpc.status_code={code:?} request_id={request_id:?}");
        assert_eq!(TELEMETRY.log.take(&request_id), [line]);
    }

    // A client that goes away leaves a line too.
    let call = async move { client.get_token(labelled("hang", "line-gone")).await };
    let call = tokio::spawn(call);
    soon(server.script.hanging.acquire()).await.expect("open").forget();
    call.abort();
    soon(server.script.dropped.acquire()).await.expect("open").forget();
    let lines = TELEMETRY.log.take("line-gone");
    assert!(matches!(lines.as_slice(), [line] if line.contains("CANCELLED")), "{lines:?}");
}

fn labelled(id: &str, request_id: &str) -> Request<forebay_proto::token::v1::GetTokenRequest> {
    let mut request = Request::new(get(id));
    request.metadata_mut().insert("x-request-id", request_id.parse().expect("a value"));
    request
}
