//! An OTLP collector in this process that keeps what it is sent.

use std::net::SocketAddr;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A running collector on a runtime of its own; it stops when dropped.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    received: Received,
    _runtime: Runtime,
}

#[derive(Debug, Clone, Default)]
struct Received(Arc<Mutex<Vec<OfResource>>>);

type OfResource = (Option<Resource>, Span);

impl Collector {
    /// Starts on a free port, or on the given one.
    pub(crate) fn start(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("start a runtime");
        let received = Received::default();
        let listen = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port));
        let listener = runtime.block_on(listen).expect("listen on loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(received.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Self { address, received, _runtime: runtime }
    }

    /// The endpoint to export to.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every span received so far, in order.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.received.0.lock().iter().map(|(_, span)| span.clone()).collect()
    }

    /// The names of the spans received so far, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.spans().into_iter().map(|span| span.name).collect()
    }

    /// A resource attribute of the first span received.
    pub(crate) fn resource_attribute(&self, key: &str) -> Option<String> {
        let received = self.received.0.lock();
        let resource = received.first()?.0.clone()?;
        let attribute = resource.attributes.into_iter().find(|attribute| attribute.key == key)?;
        Some(format!("{:?}", attribute.value?.value?))
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock();
        for of_resource in request.into_inner().resource_spans {
            let resource = of_resource.resource;
            let spans = of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans);
            received.extend(spans.map(|span| (resource.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
