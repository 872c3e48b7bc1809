//! The span and the metric of each call that we make.
//!
//! Names follow the OpenTelemetry semantic conventions 1.44 for RPC.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use opentelemetry::metrics::Histogram;
use opentelemetry::trace::{
    SpanBuilder, SpanKind, Status as SpanStatus, TraceContextExt as _, Tracer as _,
};
use opentelemetry::{Context, KeyValue, StringValue, global};
use tokio::time::Instant;
use tonic::Code;

use crate::error;
use crate::server::DURATION_BOUNDARIES;

/// What observing needs that is the same for all calls to a peer.
#[derive(Clone)]
pub(super) struct Observer(Arc<Inner>);

struct Inner {
    tracer: global::BoxedTracer,
    duration: Histogram<f64>,
    address: StringValue,
    port: i64,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("address", &self.0.address).finish_non_exhaustive()
    }
}

impl Observer {
    /// Takes the tracer and the meter of the process as they are now.
    pub(super) fn new(peer: &Uri) -> Self {
        let duration = global::meter("forebay.grpc")
            .f64_histogram("rpc.client.call.duration")
            .with_unit("s")
            .with_description("Duration of calls made.")
            .with_boundaries(DURATION_BOUNDARIES.to_vec())
            .build();
        let default_port = if peer.scheme_str() == Some("https") { 443 } else { 80 };
        Self(Arc::new(Inner {
            tracer: global::tracer("forebay.grpc"),
            duration,
            address: Arc::<str>::from(peer.host().unwrap_or_default()).into(),
            port: peer.port_u16().unwrap_or(default_port).into(),
        }))
    }

    /// Starts the span of the call to `path`, below the span that is current.
    pub(super) fn start(&self, path: &str) -> Pending {
        let inner = &self.0;
        let method: Arc<str> = path.strip_prefix('/').unwrap_or(path).into();
        let method = StringValue::from(method);
        let mut builder = SpanBuilder::from_name(method.as_str().to_owned());
        builder.span_kind = Some(SpanKind::Client);
        builder.attributes = Some(vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", method.clone()),
            KeyValue::new("server.address", inner.address.clone()),
            KeyValue::new("server.port", inner.port),
        ]);
        let parent = Context::current();
        let span = inner.tracer.build_with_context(builder, &parent);
        Pending {
            observer: self.clone(),
            method,
            started: Instant::now(),
            context: parent.with_span(span),
            ended: false,
        }
    }
}

/// A call that we made and that is not over. Dropped, it was cancelled.
#[derive(Debug)]
pub(super) struct Pending {
    observer: Observer,
    method: StringValue,
    started: Instant,
    context: Context,
    ended: bool,
}

impl Pending {
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Notes that `attempt` failed and the next one follows after `pause`.
    pub(super) fn retried(&self, attempt: u32, pause: Duration) {
        let pause_ms = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX);
        self.context.span().add_event(
            "retry",
            vec![
                KeyValue::new("forebay.rpc.attempt", i64::from(attempt)),
                KeyValue::new("forebay.rpc.pause_ms", pause_ms),
            ],
        );
    }

    pub(super) fn finish(mut self, code: Code) {
        self.ended = true;
        self.observe(code);
    }

    fn observe(&self, code: Code) {
        let name = error::code_name(code);
        let inner = &self.observer.0;
        let mut attributes = vec![
            KeyValue::new("rpc.system.name", "grpc"),
            KeyValue::new("rpc.method", self.method.clone()),
            KeyValue::new("rpc.status_code", name),
            KeyValue::new("server.address", inner.address.clone()),
            KeyValue::new("server.port", inner.port),
        ];
        let span = self.context.span();
        span.set_attribute(KeyValue::new("rpc.status_code", name));
        // To a caller every code but OK is a failure, whoever is to blame.
        if code != Code::Ok {
            attributes.push(KeyValue::new("error.type", name));
            span.set_attribute(KeyValue::new("error.type", name));
            span.set_status(SpanStatus::error(""));
        }
        inner.duration.record(self.started.elapsed().as_secs_f64(), &attributes);
        span.end();
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.ended {
            self.observe(Code::Cancelled);
        }
    }
}
