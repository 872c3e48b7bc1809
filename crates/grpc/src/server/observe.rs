//! The span, the metric and the log line of each call.
//!
//! Names follow the OpenTelemetry semantic conventions 1.44 for RPC.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_pooling::Gate;
use http::HeaderValue;
use opentelemetry::metrics::Histogram;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status as SpanStatus, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue, StringValue, global};
use tonic::Code;

use super::routes::Method;
use crate::{context, error};

/// Bucket boundaries of call durations, in seconds.
///
/// The conventions advise 5 ms to 10 s; an answer from memory takes less than
/// the first of these, so three finer ones come before.
pub(crate) const DURATION_BOUNDARIES: [f64; 17] = [
    0.000_25, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
    7.5, 10.0,
];

/// How many status codes gRPC has.
const CODES: usize = 17;

/// The metric attributes of one method, made once for each code it ends with.
#[derive(Debug)]
pub(crate) struct CodeAttributes {
    method: &'static str,
    by_code: [OnceLock<Box<[KeyValue]>>; CODES],
}

impl CodeAttributes {
    pub(crate) fn new(method: &'static str) -> Self {
        Self { method, by_code: Default::default() }
    }

    fn get(&self, code: Code) -> &[KeyValue] {
        let index = usize::try_from(i32::from(code)).unwrap_or_default();
        self.by_code[index].get_or_init(|| {
            let name = error::code_name(code);
            let mut attributes = vec![
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", self.method),
                KeyValue::new("rpc.status_code", name),
            ];
            if is_server_error(code) {
                attributes.push(KeyValue::new("error.type", name));
            }
            attributes.into_boxed_slice()
        })
    }
}

/// Whether a call that ends with `code` failed through our fault.
///
/// The other codes are answers: the caller asked for what cannot be.
pub(crate) fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The other end of one connection.
#[derive(Debug)]
pub(crate) struct Peer {
    address: SocketAddr,
    text: StringValue,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let text = Arc::<str>::from(address.ip().to_string());
        Self { address, text: text.into() }
    }
}

/// What observing needs that is the same for all calls of a server.
pub(crate) struct Observer {
    tracer: global::BoxedTracer,
    duration: Histogram<f64>,
    server_address: StringValue,
    server_port: i64,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").finish_non_exhaustive()
    }
}

impl Observer {
    /// Takes the tracer and the meter of the process as they are now.
    pub(crate) fn new(local_addr: SocketAddr, gate: &Gate) -> Self {
        let meter = global::meter("forebay.grpc");
        let waiting = gate.clone();
        meter
            .u64_observable_gauge("forebay.rpc.server.requests_waiting")
            .with_unit("{request}")
            .with_description("Requests that wait for a place.")
            .with_callback(move |seen| seen.observe(count(waiting.stats().waiting), &[]))
            .build();
        let served = gate.clone();
        meter
            .u64_observable_gauge("forebay.rpc.server.requests_active")
            .with_unit("{request}")
            .with_description("Requests being served.")
            .with_callback(move |seen| seen.observe(count(served.stats().held), &[]))
            .build();
        let refused = gate.clone();
        meter
            .u64_observable_counter("forebay.rpc.server.requests_shed")
            .with_unit("{request}")
            .with_description("Requests refused because too many waited.")
            .with_callback(move |seen| seen.observe(refused.stats().shed, &[]))
            .build();
        let duration = meter
            .f64_histogram("rpc.server.call.duration")
            .with_unit("s")
            .with_description("Duration of calls served.")
            .with_boundaries(DURATION_BOUNDARIES.to_vec())
            .build();
        Self {
            tracer: global::tracer("forebay.grpc"),
            duration,
            server_address: Arc::<str>::from(local_addr.ip().to_string()).into(),
            server_port: local_addr.port().into(),
        }
    }

    /// Starts the span of a call; `None` when nothing traces it and nothing came in to pass on.
    ///
    /// A probe of the kit (health, reflection) starts no trace of its own: one a
    /// second from every prober would bury the traces of work.
    pub(crate) fn start(
        &self,
        method: &Method,
        peer: &Peer,
        caller: Option<SpanContext>,
    ) -> Option<Context> {
        let parent = match caller {
            None if method.kit => return None,
            Some(caller) => Context::new().with_remote_span_context(caller),
            None => Context::new(),
        };
        let mut builder = SpanBuilder::from_name(method.name);
        builder.span_kind = Some(SpanKind::Server);
        let mut span = self.tracer.build_with_context(builder, &parent);
        if !span.span_context().is_valid() {
            return None;
        }
        // Attributes of a span that nobody records would be made for nothing.
        if span.is_recording() {
            span.set_attributes([
                KeyValue::new("rpc.system.name", "grpc"),
                KeyValue::new("rpc.method", method.name),
                KeyValue::new("server.address", self.server_address.clone()),
                KeyValue::new("server.port", self.server_port),
                KeyValue::new("network.peer.address", peer.text.clone()),
                KeyValue::new("network.peer.port", i64::from(peer.address.port())),
            ]);
        }
        Some(parent.with_span(span))
    }

    /// Ends a call: metric, span, log line.
    pub(crate) fn finish(&self, ended: &Ended<'_>) {
        let code = ended.code;
        self.duration.record(ended.took.as_secs_f64(), ended.method.attributes.get(code));
        let _attached = ended.context.map(|context| context.clone().attach());
        log(ended);
        let Some(context) = ended.context else { return };
        let span = context.span();
        if span.is_recording() {
            let name = error::code_name(code);
            span.set_attribute(KeyValue::new("rpc.status_code", name));
            if is_server_error(code) {
                span.set_attribute(KeyValue::new("error.type", name));
                span.set_status(SpanStatus::error(""));
            }
        }
        span.end();
    }
}

/// A call that is over.
pub(crate) struct Ended<'a> {
    pub(crate) method: &'a Method,
    pub(crate) peer: &'a Peer,
    pub(crate) context: Option<&'a Context>,
    pub(crate) request_id: &'a HeaderValue,
    pub(crate) code: Code,
    pub(crate) took: Duration,
}

/// A call that takes at least this long is worth a line though it went well.
const SLOW: Duration = Duration::from_millis(250);

/// The access log: one line for each call, a warning when it failed through our fault.
///
/// A call that went well and fast is a DEBUG line: metrics count it and traces show it, and
/// formatting a line cost a third of what answering from memory does (measured on GetToken).
/// The filter `info,forebay_grpc::access=debug` shows them all, also while the process runs.
fn log(ended: &Ended<'_>) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "forebay_grpc::access",
                $level,
                rpc.method = ended.method.name,
                rpc.status_code = error::code_name(ended.code),
                duration_ms = (ended.took.as_secs_f64() * 1e6).round() / 1e3,
                network.peer.address = %ended.peer.address,
                request_id = context::text(ended.request_id),
                "call served"
            )
        };
    }
    if is_server_error(ended.code) {
        line!(tracing::Level::WARN);
    } else if ended.method.kit || (ended.code == Code::Ok && ended.took < SLOW) {
        line!(tracing::Level::DEBUG);
    } else {
        line!(tracing::Level::INFO);
    }
}

fn count(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
