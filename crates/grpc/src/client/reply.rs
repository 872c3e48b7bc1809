//! The reply of a peer: it ends the call when it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use forebay_pooling::Deadline;
use http::Response;
use http_body::{Frame, SizeHint};
use std::future::Future as _;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::observe::Pending;
use crate::error;
use crate::server::KIT_DOMAIN;

/// Body of a reply, cut off at the deadline of its call.
#[derive(Debug)]
pub struct ReplyBody {
    inner: Body,
    /// Present until the status is known.
    pending: Option<Pending>,
    deadline: Deadline,
    /// Made when the reply first has to wait.
    expired: Option<Pin<Box<Sleep>>>,
}

/// The pause that is asked for, when the peer or the way to it is UNAVAILABLE.
pub(super) fn unavailable(result: &Result<Response<Body>, Status>) -> Option<Duration> {
    match result {
        Ok(response) => {
            let status = Status::from_header_map(response.headers())?;
            let asked = || status.get_details_retry_info().and_then(|info| info.retry_delay);
            (status.code() == Code::Unavailable).then(|| asked().unwrap_or_default())
        }
        // Made here, with a hint for our caller: the peer has asked for nothing.
        Err(status) => (status.code() == Code::Unavailable).then_some(Duration::ZERO),
    }
}

/// Ends `pending` with the reply.
pub(super) fn follow(
    response: Response<Body>,
    pending: Pending,
    deadline: Deadline,
) -> Response<ReplyBody> {
    let pending = match response.headers().get(Status::GRPC_STATUS) {
        Some(code) => {
            pending.finish(Code::from_bytes(code.as_bytes()));
            None
        }
        None => Some(pending),
    };
    response.map(|inner| ReplyBody { inner, pending, deadline, expired: None })
}

impl ReplyBody {
    fn finish(&mut self, code: Code) {
        if let Some(pending) = self.pending.take() {
            pending.finish(code);
        }
    }
}

impl http_body::Body for ReplyBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            match &frame {
                Some(Ok(frame)) => {
                    let status =
                        frame.trailers_ref().map(|trailers| trailers.get(Status::GRPC_STATUS));
                    if let Some(code) = status {
                        this.finish(
                            code.map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes())),
                        );
                    }
                }
                Some(Err(_)) => {
                    this.finish(Code::Unavailable);
                    return Poll::Ready(frame.map(|frame| frame.map_err(super::unreachable)));
                }
                // Without trailers tonic reports UNKNOWN to the caller, and so do we.
                None => this.finish(Code::Unknown),
            }
            return Poll::Ready(frame);
        }
        let deadline = this.deadline.instant();
        let expired =
            this.expired.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        ready!(expired.as_mut().poll(cx));
        this.finish(Code::DeadlineExceeded);
        Poll::Ready(Some(Err(error::deadline_exceeded(KIT_DOMAIN))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
