//! The OTLP endpoint of a development instance: what services export goes into the store.
//!
//! An export is answered once it is in a file, so a trace that a service got rid of is not lost
//! when this process is killed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::{Request, Response, Status};

use super::store::{Limits, Store};

/// The largest export taken, after decompression. Exporters batch 512 spans of some hundred bytes.
const EXPORT_BYTES_MAX: usize = 16 << 20;

/// Exports of one connection that may wait for the disk; the exporter holds back the rest.
const EXPORTS_PER_CONNECTION_MAX: usize = 8;

/// How long connections may take to finish after a stop. Nothing is lost when it is exceeded:
/// an exporter that got no answer has lost its spans to the end of the instance anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A running endpoint. Dropping it stops it without waiting.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// Listens on `listen` and stores what arrives in `dir`, within [`Limits::DEFAULT`].
///
/// # Errors
///
/// When the address is taken or the folder cannot be used.
pub(crate) async fn start(listen: SocketAddr, dir: &Path) -> anyhow::Result<Receiver> {
    let store = Store::open(dir, Limits::DEFAULT)?;
    let listener =
        TcpListener::bind(listen).await.with_context(|| format!("listen on {listen}"))?;
    let address = listener.local_addr().context("read the address of the listener")?;
    let service = TraceServiceServer::new(Collector { store: Arc::new(Mutex::new(store)) })
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(EXPORT_BYTES_MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(EXPORTS_PER_CONNECTION_MAX)
        .add_service(service)
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            // A dropped sender means stop as well.
            let _: Result<(), oneshot::error::RecvError> = stopped.await;
        });
    Ok(Receiver { address, stop: Some(stop), server: tokio::spawn(serving) })
}

impl Receiver {
    /// Where it listens; tells the port when it was asked for any.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and waits a moment for exports under way.
    ///
    /// # Errors
    ///
    /// When the endpoint had failed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        match tokio::time::timeout(STOP_TIMEOUT, &mut self.server).await {
            Ok(ended) => ended.context("serve OTLP")?.context("serve OTLP"),
            Err(_elapsed) => Ok(()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Debug)]
struct Collector {
    store: Arc<Mutex<Store>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let export = request.into_inner();
        let mut store = Arc::clone(&self.store).lock_owned().await;
        let written = tokio::task::spawn_blocking(move || store.append(&export)).await;
        match written {
            Ok(Ok(())) => Ok(Response::new(ExportTraceServiceResponse::default())),
            Ok(Err(error)) => Err(Status::unavailable(format!("store the traces: {error:#}"))),
            Err(panicked) => Err(Status::internal(format!("store the traces: {panicked}"))),
        }
    }
}
