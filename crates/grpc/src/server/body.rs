//! The body of a reply: it ends the call when it ends.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::call::Call;
use super::routes::Method;
use crate::error;

/// Ends a reply early, with a status for the client.
type Cut = Pin<Box<dyn Future<Output = Status> + Send>>;

/// A reply on its way out.
pub(crate) struct CallBody {
    inner: Body,
    /// Present until the status is known.
    call: Option<Call>,
    until: Option<Instant>,
    /// Made when the reply first has to wait, which an answer in memory never does.
    cut: Option<Cut>,
}

impl CallBody {
    /// A reply that ends by itself, at `until`, or when the kit's streams must end.
    pub(crate) fn new(inner: Body, call: Call, until: Option<Instant>) -> Self {
        Self { inner, call: Some(call), until, cut: None }
    }

    /// A reply whose status is in its headers.
    pub(crate) fn empty() -> Self {
        Self { inner: Body::empty(), call: None, until: None, cut: None }
    }

    /// The status in `trailers` is the end of the call.
    fn end(&mut self, trailers: &mut HeaderMap) {
        if let Some(call) = self.call.take() {
            let code = complete(trailers, call.method());
            call.finish(code);
        }
    }

    /// Ends the reply with a status of ours.
    fn end_with(&mut self, status: &Status) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.inner = Body::empty();
        let mut trailers = HeaderMap::with_capacity(3);
        write(status, &mut trailers);
        self.end(&mut trailers);
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(call) = &self.call else {
            return Poll::Pending;
        };
        let until = self.until;
        self.cut.get_or_insert_with(|| call.cut(until)).as_mut().poll(cx)
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let polled = {
            // A streaming handler runs inside this poll, so it gets its context here.
            let _attached = this.call.as_ref().and_then(Call::attach);
            catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.inner).poll_frame(cx)))
        };
        match polled {
            Ok(Poll::Ready(Some(Ok(mut frame)))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    this.end(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(Poll::Ready(Some(Err(status)))) => this.end_with(&status),
            Ok(Poll::Ready(None)) => {
                // A handler whose reply has no status did not finish it.
                match &this.call {
                    Some(call) => {
                        let status = error::internal(call.method().domain);
                        this.end_with(&status)
                    }
                    None => Poll::Ready(None),
                }
            }
            Ok(Poll::Pending) => match this.poll_cut(cx) {
                Poll::Ready(status) => this.end_with(&status),
                Poll::Pending => Poll::Pending,
            },
            Err(panic) => {
                let domain = this.call.as_ref().map_or("", |call| call.panicked(&*panic));
                this.end_with(&error::internal(domain))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none() && http_body::Body::is_end_stream(&self.inner)
    }
}

/// Reads the code of a status in headers or trailers and gives the status
/// `ErrorInfo` when it has no details.
pub(crate) fn complete(headers: &mut HeaderMap, method: &Method) -> Code {
    let Some(value) = headers.get(Status::GRPC_STATUS) else {
        return Code::Unknown;
    };
    let code = Code::from_bytes(value.as_bytes());
    if code != Code::Ok && !headers.contains_key("grpc-status-details-bin") {
        let message = Status::from_header_map(headers)
            .map(|status| status.message().to_owned())
            .filter(|message| !message.is_empty())
            .unwrap_or_else(|| default_message(code).to_owned());
        write(&error::with_error_info(code, message, method.domain), headers);
    }
    code
}

/// Writes `status` into headers or trailers.
pub(crate) fn write(status: &Status, headers: &mut HeaderMap) {
    if status.add_header(headers).is_err() {
        // The message had bytes that no header may carry; the code still must arrive.
        headers.insert(Status::GRPC_STATUS, HeaderValue::from(i32::from(status.code())));
    }
}

fn default_message(code: Code) -> &'static str {
    match code {
        Code::Unimplemented => "the server has no such method",
        _ => code.description(),
    }
}
