//! An OTLP collector that keeps every span it is sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How long a test waits for spans to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(20);

/// One span and the service that sent it.
#[derive(Debug, Clone)]
pub struct SpanRecord {
    /// `service.name` of the sender.
    pub service: String,
    /// The span as sent.
    pub span: Span,
}

impl SpanRecord {
    /// A string attribute of the span.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        string_attribute(&self.span.attributes, key)
    }
}

/// A running collector on a loopback port.
#[derive(Debug)]
pub struct Collector {
    /// Endpoint for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub endpoint: String,
    spans: Arc<Mutex<Vec<SpanRecord>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Collector {
    /// Starts the collector.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let spans = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink { spans: Arc::clone(&spans) };
        let server = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(sink))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the collector serves until it is aborted");
        });
        Ok(Self { endpoint, spans, server })
    }

    /// The spans of one trace (32 hex digits), once `complete` says that all are there.
    ///
    /// # Errors
    /// When they do not arrive in time; the error lists what did.
    pub async fn trace(
        &self,
        trace_id: &str,
        complete: impl Fn(&[SpanRecord]) -> bool,
    ) -> anyhow::Result<Vec<SpanRecord>> {
        let deadline = tokio::time::Instant::now() + ARRIVAL_TIMEOUT;
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        loop {
            poll.tick().await;
            let mut spans = self.spans.lock().clone();
            spans.retain(|record| hex(&record.span.trace_id) == trace_id);
            if complete(&spans) {
                return Ok(spans);
            }
            if tokio::time::Instant::now() > deadline {
                let names: Vec<_> = spans
                    .iter()
                    .map(|record| format!("{}: {}", record.service, record.span.name))
                    .collect();
                bail!("trace {trace_id} is incomplete after {ARRIVAL_TIMEOUT:?}: {names:#?}");
            }
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Sink {
    spans: Arc<Mutex<Vec<SpanRecord>>>,
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource_spans in request.into_inner().resource_spans {
            let attributes = resource_spans.resource.map(|r| r.attributes).unwrap_or_default();
            let service = string_attribute(&attributes, "service.name").unwrap_or("?").to_owned();
            let spans = resource_spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            let records = spans.map(|span| SpanRecord { service: service.clone(), span });
            self.spans.lock().extend(records);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn string_attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        any_value::Value::StringValue(text) => Some(text),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
