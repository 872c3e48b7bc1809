//! Calls to other services.
//!
//! A [`Channel`] is given to a generated client. It connects when it is first
//! used and again whenever it must. What is left of the deadline in scope goes
//! out as `grpc-timeout`, and the trace and the request id go with it. So does what
//! the caller of the request in scope has seen, and what a [`Session`] has.
//!
//! A call that fails with UNAVAILABLE is tried again only when its caller
//! marked it [`Idempotent`], within its deadline, a number of attempts, and a
//! budget that keeps a crowd of callers from burying a peer that is coming back.
//! A peer that asks for a long pause is not waited for: its status goes to the
//! caller at once, with that hint, because a call that sleeps holds a request.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use forebay_config::GrpcClientConfig;
use forebay_pooling::Deadline;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use opentelemetry::trace::TraceContextExt as _;
use tonic::body::Body;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tower::{Service, ServiceExt as _};

use crate::error::Problem;
use crate::server::KIT_DOMAIN;
use crate::{context, error, min_version, timeout, trace};
use observe::{Observer, Pending};
use reply::ReplyBody;
use retry::Budget;

pub use session::Session;

mod observe;
mod reply;
mod retry;
mod session;

/// A silent connection is asked for a sign of life this often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// A connection that gives no sign of life for this long is replaced.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// When to come back to a peer that cannot be reached.
const UNREACHABLE_RETRY_AFTER: Duration = Duration::from_millis(500);

/// Marks a call that may be sent twice.
///
/// Put it into the extensions of the request, or use [`idempotent`].
#[derive(Debug, Clone, Copy)]
pub struct Idempotent;

/// A request that may be sent twice: a read, or a write with a request id.
pub fn idempotent<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(Idempotent);
    request
}

/// The endpoint in the settings is no address.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint:?} is not an address such as \"http://host:port\"")]
pub struct EndpointError {
    endpoint: String,
    #[source]
    source: tonic::transport::Error,
}

/// A channel to the peer of `config`. It connects when it is first used.
///
/// # Errors
/// [`EndpointError`] when the endpoint cannot be read.
pub fn connect(config: &GrpcClientConfig) -> Result<Channel, EndpointError> {
    let endpoint = Endpoint::from_shared(config.endpoint.clone())
        .map_err(|source| EndpointError { endpoint: config.endpoint.clone(), source })?
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEP_ALIVE_INTERVAL))
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let observer = Observer::new(endpoint.uri());
    Ok(Channel {
        transport: endpoint.connect_lazy(),
        session: None,
        core: Arc::new(Core {
            observer,
            timeout: config.timeout,
            attempts_max: config.attempts_max.max(1),
            budget: Budget::default(),
        }),
    })
}

/// A connection to one peer, for a generated client. Clones share it.
#[derive(Debug, Clone)]
pub struct Channel {
    transport: tonic::transport::Channel,
    session: Option<Session>,
    core: Arc<Core>,
}

#[derive(Debug)]
struct Core {
    observer: Observer,
    timeout: Duration,
    attempts_max: u32,
    budget: Budget,
}

impl Service<Request<Body>> for Channel {
    type Response = Response<ReplyBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Readiness is awaited for each attempt, within the deadline of its call.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl Channel {
    /// The same connection, for the calls of one session: its reads show what it has seen or newer.
    #[must_use]
    pub fn with_session(&self, session: Session) -> Self {
        Self { session: Some(session), ..self.clone() }
    }

    async fn send(self, request: Request<Body>) -> Result<Response<ReplyBody>, Status> {
        let (mut head, body) = request.into_parts();
        let deadline = self.deadline(&head);
        let pending = self.core.observer.start(head.uri.path());
        trace::inject(pending.context().span().span_context(), &mut head.headers);
        let request_id = context::current_request_id().unwrap_or_else(context::generate);
        head.headers.insert(context::REQUEST_ID, request_id);
        self.say_what_was_seen(&mut head);

        let sent = if head.extensions.get::<Idempotent>().is_some() {
            self.send_again(&head, body, deadline, &pending).await
        } else {
            self.attempt(&head, body, deadline).await
        };
        match sent {
            Ok(response) => {
                if let Some(session) = &self.session {
                    session.has_seen_headers(response.headers());
                }
                Ok(reply::follow(response, pending, deadline))
            }
            Err(status) => {
                pending.finish(status.code());
                Err(status)
            }
        }
    }

    /// The highest version of what the request says, the session, and the request in scope.
    fn say_what_was_seen(&self, head: &mut Parts) {
        // What the caller wrote there is his: the peer says what is wrong with it.
        let Ok(own) = min_version::read(&head.headers) else { return };
        let session = self.session.as_ref().map(Session::version);
        if let Some(seen) = own.max(session).max(context::current_min_version()) {
            head.headers.insert(min_version::MIN_VERSION, seen.into());
        }
    }

    /// The nearest of the deadline in scope, the one that the request carries and our own timeout.
    fn deadline(&self, head: &Parts) -> Deadline {
        let own = Deadline::within(self.core.timeout);
        let asked = head.headers.get(timeout::GRPC_TIMEOUT).and_then(timeout::parse);
        asked.map_or(own, |asked| own.earliest(Deadline::after(asked)))
    }

    /// Sends until there is an answer other than UNAVAILABLE or trying again is no use.
    async fn send_again(
        &self,
        head: &Parts,
        body: Body,
        deadline: Deadline,
        pending: &Pending,
    ) -> Result<Response<Body>, Status> {
        let body = body.collect().await?.to_bytes();
        let mut attempt = 1;
        loop {
            let result = self.attempt(head, replay(&body), deadline).await;
            let Some(asked) = reply::unavailable(&result) else {
                self.core.budget.deposit();
                return result;
            };
            let allowed = self.core.budget.withdraw() && attempt < self.core.attempts_max;
            let pause = retry::pause(attempt, asked, deadline.remaining());
            let Some(pause) = pause.filter(|_| allowed) else {
                return result;
            };
            pending.retried(attempt, pause);
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        head: &Parts,
        body: Body,
        deadline: Deadline,
    ) -> Result<Response<Body>, Status> {
        if deadline.has_passed() {
            return Err(error::deadline_exceeded(KIT_DOMAIN));
        }
        let mut head = head.clone();
        let left = timeout::format(deadline.remaining());
        head.headers.insert(timeout::GRPC_TIMEOUT, left);
        let mut transport = self.transport.clone();
        let answered =
            async { transport.ready().await?.call(Request::from_parts(head, body)).await };
        match tokio::time::timeout_at(deadline.instant(), answered).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(unreachable(error)),
            Err(_elapsed) => Err(error::deadline_exceeded(KIT_DOMAIN)),
        }
    }
}

fn replay(body: &Bytes) -> Body {
    Body::new(Full::new(body.clone()))
}

/// Whatever breaks below HTTP/2 is UNAVAILABLE: the peer may never have seen
/// the call. The cause is the source of the status, for the log.
fn unreachable(error: impl std::error::Error + Send + Sync + 'static) -> Status {
    if is_timeout(&error) {
        return error::deadline_exceeded(KIT_DOMAIN);
    }
    let mut status = Problem::new(Code::Unavailable, KIT_DOMAIN, "PEER_UNREACHABLE")
        .message("a service that is needed for the answer cannot be reached")
        .retry_after(UNREACHABLE_RETRY_AFTER)
        .into_status();
    status.set_source(Arc::new(error));
    status
}

/// Whether tonic's own timer, which also reads `grpc-timeout`, was ahead of ours.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(<dyn std::error::Error>::is::<tonic::TimeoutExpired>)
}
