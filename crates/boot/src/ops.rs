//! The HTTP port for operators: `/livez`, `/readyz`, `/startupz` and `/metrics`.
//!
//! - `/livez` is 200 as long as the process can answer at all. It looks at no store: a
//!   supervisor that restarts processes because a store is down makes things worse.
//! - `/startupz` is 200 once every required component was ready, and stays 200.
//! - `/readyz` is 200 while new requests should come here: ready or degraded, not
//!   starting or draining.
//! - All three answer the same JSON body with the state and every component.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::readiness::{ComponentReport, ComponentState, ProcessState};
use crate::run::VERSION;

/// Connections at once; one more waits in the backlog of the socket. Probes and one
/// scraper need a handful.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to send a request, or stay idle between two.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: without one, running out of files would spin a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running port. It closes when this is dropped.
#[derive(Debug)]
pub(crate) struct OpsServer {
    accepting: JoinHandle<()>,
}

impl OpsServer {
    /// Opens the port and answers on it.
    pub(crate) async fn bind(listen: SocketAddr, process: &Process) -> anyhow::Result<Self> {
        let open = || async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok::<_, std::io::Error>((listener, address))
        };
        let (listener, address) = open()
            .await
            .with_context(|| format!("listen for operators on {listen} (ops.listen)"))?;
        tracing::info!(%address, "listening for operators");
        let accepting = tokio::spawn(accept(listener, router(process.clone())));
        Ok(Self { accepting })
    }
}

impl Drop for OpsServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, router: Router) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await;
        let Ok(permit) = permit else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                tokio::spawn(async move {
                    answer(stream, router).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(error = %error, "accept an operator's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the requests of one connection until the peer is done with it.
async fn answer(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(error = %error, "operator's connection ended");
    }
}

fn router(process: Process) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .with_state(process)
}

async fn livez(State(process): State<Process>) -> Response {
    report(&process, true)
}

async fn readyz(State(process): State<Process>) -> Response {
    let serves = process.readiness.state().serves();
    report(&process, serves)
}

async fn startupz(State(process): State<Process>) -> Response {
    let started = process.readiness.is_started();
    report(&process, started)
}

async fn metrics(State(process): State<Process>) -> Response {
    let exposition = process.telemetry.render();
    ([(CONTENT_TYPE, exposition.content_type)], exposition.body).into_response()
}

fn report(process: &Process, good: bool) -> Response {
    let state: ProcessState = process.readiness.state();
    let components: Vec<Value> = process.readiness.components().iter().map(component).collect();
    let body = json!({
        "service": process.service,
        "version": VERSION,
        "state": state.as_str(),
        "components": components,
    });
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn component(report: &ComponentReport) -> Value {
    let elapsed_ms = u64::try_from(report.since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut value = json!({
        "name": report.name,
        "required": report.required,
        "state": report.state.as_str(),
        "for_ms": elapsed_ms,
    });
    if let ComponentState::Degraded(reason) = &report.state {
        value["reason"] = json!(reason);
    }
    value
}
