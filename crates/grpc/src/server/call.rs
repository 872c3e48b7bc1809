//! One call, from its headers to its status.

use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use forebay_config::GrpcConfig;
use forebay_pooling::{Deadline, Gate, GateConfig, GateError, GatePermit};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use opentelemetry::context::FutureExt as _;
use opentelemetry::trace::TraceContextExt as _;
use opentelemetry::{Context, ContextGuard};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::body::{self, CallBody};
use super::observe::{Ended, Observer, Peer};
use super::request_body::LimitedBody;
use super::routes::{Method, Routes};
use crate::context::{self, Carried};
use crate::{error, min_version, timeout, trace};

/// Name of the header that tells the caller under which trace to look.
const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Requests that may wait, for each that may be served: past that, waiting is hopeless.
const WAITING_PER_PLACE: usize = 4;

/// When a caller that was shed should come back.
const SHED_RETRY_AFTER: Duration = Duration::from_millis(200);

/// What all calls of a server share.
#[derive(Debug)]
pub(crate) struct Core {
    routes: Routes,
    observer: Observer,
    gate: Gate,
    timeout_default: Duration,
    timeout_max: Duration,
    request_bytes_max: usize,
    /// True once the kit's own streams must end, so that they do not hold up a drain.
    closing: watch::Sender<bool>,
}

impl Core {
    pub(crate) fn new(config: &GrpcConfig, routes: Routes, local_addr: SocketAddr) -> Self {
        let gate = Gate::new(GateConfig {
            reserved: Some(0),
            ..GateConfig::new(
                config.concurrent_requests_max,
                config.concurrent_requests_max.saturating_mul(WAITING_PER_PLACE),
                config.timeout_max,
            )
        });
        Self {
            routes,
            observer: Observer::new(local_addr, &gate),
            gate,
            timeout_default: config.timeout_default,
            timeout_max: config.timeout_max,
            request_bytes_max: config.request_bytes_max,
            closing: watch::Sender::new(false),
        }
    }

    /// Tells every connection and every stream of the kit to finish.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Completes once [`Core::close`] was called.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut closing = self.closing.subscribe();
        // An error means that the server is gone, which is an end too.
        async move { drop(closing.wait_for(|closing| *closing).await) }
    }

    /// Serves one call.
    pub(crate) async fn serve(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Response<CallBody> {
        let started = Instant::now();
        let method = Arc::clone(self.routes.find(request.uri().path()));
        let headers = request.headers();
        let request_id = context::accept_or_generate(headers.get(context::REQUEST_ID));
        let traced = self.observer.start(&method, &peer, trace::extract(headers));
        let until = self.until(started, &method, headers);
        let min_version = min_version::read(headers);
        let request = request.map(|body| {
            Body::new(LimitedBody::new(body, Arc::clone(&method), self.request_bytes_max))
        });
        let mut call = Call {
            core: self,
            method,
            peer,
            started,
            context: traced,
            request_id,
            permit: None,
            ended: false,
        };
        let until = match until {
            Ok(until) => until,
            Err(status) => return call.refuse(&status),
        };
        let min_version = match min_version {
            Ok(min_version) => min_version,
            Err(not_a_version) => {
                let status = not_a_version.into_status(call.method.domain);
                return call.refuse(&status);
            }
        };
        match call.run(request, until, min_version).await {
            Ok(response) => call.reply(response, until),
            Err(status) => call.refuse(&status),
        }
    }

    /// When the call must be over; `None` for a stream whose caller set no end.
    fn until(
        &self,
        started: Instant,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<Instant>, Status> {
        let asked = match headers.get(timeout::GRPC_TIMEOUT) {
            Some(value) => Some(timeout::parse(value).ok_or_else(|| {
                error::Problem::new(Code::InvalidArgument, method.domain, "BAD_GRPC_TIMEOUT")
                    .message("the grpc-timeout header must be digits and one of H, M, S, m, u, n")
                    .into_status()
            })?),
            None => None,
        };
        if method.streaming {
            // A stream such as a health watch lives as long as its caller wants.
            return Ok(asked.map(|timeout| Deadline::after(timeout).instant()));
        }
        let timeout = asked.unwrap_or(self.timeout_default).min(self.timeout_max);
        if timeout.is_zero() {
            // The caller has given up already, so the handler is not started.
            return Err(error::deadline_exceeded(method.domain));
        }
        Ok(Some(started + timeout))
    }
}

/// One call. Whatever becomes of it, it ends with one span, one metric and one
/// log line: a call that is dropped was cancelled by its caller.
pub(crate) struct Call {
    core: Arc<Core>,
    method: Arc<Method>,
    peer: Arc<Peer>,
    started: Instant,
    context: Option<Context>,
    request_id: HeaderValue,
    permit: Option<GatePermit>,
    ended: bool,
}

impl Call {
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// Makes the span of the call current, for a handler that runs in a poll.
    pub(crate) fn attach(&self) -> Option<ContextGuard> {
        if !self.method.streaming {
            return None;
        }
        self.context.clone().map(Context::attach)
    }

    /// Completes when the reply must be cut, with the status to cut it with.
    pub(crate) fn cut(
        &self,
        until: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Status> + Send>> {
        let domain = self.method.domain;
        let closed = self.method.kit.then(|| self.core.closed());
        Box::pin(async move {
            let expired = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let closed = async {
                match closed {
                    Some(closed) => closed.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expired => error::deadline_exceeded(domain),
                () = closed => error::unavailable(domain, "SERVER_DRAINING", SHED_RETRY_AFTER),
            }
        })
    }

    /// Logs what a handler panicked with; the caller learns no more than INTERNAL.
    pub(crate) fn panicked(&self, panic: &(dyn Any + Send)) -> &'static str {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a value that is no text");
        tracing::error!(
            rpc.method = self.method.name,
            request_id = context::text(&self.request_id),
            panic = text,
            "handler panicked"
        );
        self.method.domain
    }

    /// Ends the call with `code`.
    pub(crate) fn finish(mut self, code: Code) {
        self.ended = true;
        self.observe(code);
    }

    /// Runs the handler: in order, within the deadline, surviving its panic.
    async fn run(
        &mut self,
        request: Request<Body>,
        until: Option<Instant>,
        min_version: Option<i64>,
    ) -> Result<Response<Body>, Status> {
        let method = Arc::clone(&self.method);
        let gate = (!method.kit).then(|| self.core.gate.clone());
        let permit = &mut self.permit;
        let carried = Carried { request_id: self.request_id.clone(), min_version };
        let served = context::scope(carried, async {
            if let Some(gate) = gate {
                let admitted = gate.acquire(Location::caller()).await;
                *permit = Some(admitted.map_err(|refused| turned_away(&refused, &method))?);
            }
            match method.call(request) {
                Some(reply) => Ok(reply.await),
                None => Err(Status::unimplemented("the server has no such service")),
            }
        });
        let in_time = async {
            match until {
                Some(until) => {
                    let scoped = Deadline::at(until).scope(served);
                    let expired = |_elapsed| Err(error::deadline_exceeded(method.domain));
                    tokio::time::timeout_at(until, scoped).await.unwrap_or_else(expired)
                }
                None => served.await,
            }
        };
        let traced = match &self.context {
            Some(context) => in_time.with_context(context.clone()).left_future(),
            None => in_time.right_future(),
        };
        // What a handler shares across calls is behind locks that do not poison.
        match AssertUnwindSafe(traced).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => Err(error::internal(self.panicked(&*panic))),
        }
    }

    /// Sends the handler's response; the call ends when its body does.
    fn reply(mut self, mut response: Response<Body>, until: Option<Instant>) -> Response<CallBody> {
        if !self.method.streaming {
            // The work is done. A client that does not read its reply holds memory of its
            // connection, but not the place of somebody else's request.
            self.permit = None;
        }
        self.label(response.headers_mut());
        if response.headers().contains_key(Status::GRPC_STATUS) {
            let code = body::complete(response.headers_mut(), &self.method);
            self.finish(code);
            return response.map(|_status_is_in_the_headers| CallBody::empty());
        }
        response.map(|body| CallBody::new(body, self, until))
    }

    /// Sends a status of our own.
    fn refuse(self, status: &Status) -> Response<CallBody> {
        let mut response = Response::new(CallBody::empty());
        let headers = response.headers_mut();
        headers.insert(http::header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
        body::write(status, headers);
        let code = body::complete(headers, &self.method);
        self.label(headers);
        self.finish(code);
        response
    }

    /// Tells the caller how to find this call in logs and traces.
    fn label(&self, headers: &mut HeaderMap) {
        headers.insert(context::REQUEST_ID, self.request_id.clone());
        if let Some(context) = &self.context {
            let trace_id = context.span().span_context().trace_id();
            headers.insert(TRACE_ID, trace::trace_id_value(trace_id));
        }
    }

    fn observe(&self, code: Code) {
        self.core.observer.finish(&Ended {
            method: &self.method,
            peer: &self.peer,
            context: self.context.as_ref(),
            request_id: &self.request_id,
            code,
            took: self.started.elapsed(),
        });
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.ended {
            self.observe(Code::Cancelled);
        }
    }
}

fn turned_away(refused: &GateError, method: &Method) -> Status {
    match refused {
        GateError::Shed { .. } | GateError::Closed => {
            error::unavailable(method.domain, "SERVER_OVERLOADED", SHED_RETRY_AFTER)
        }
        GateError::Timeout { .. } => error::deadline_exceeded(method.domain),
    }
}
