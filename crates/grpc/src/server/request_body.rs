//! The body of a request, with every message in it held to the limit.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::routes::Method;
use crate::error;

use std::sync::Arc;

/// Bytes before each message: a flag and the length.
const PREFIX_BYTES: usize = 5;

/// Watches the lengths that a body declares and refuses a message over the
/// limit before it is read.
pub(crate) struct LimitedBody<B> {
    inner: B,
    method: Arc<Method>,
    bytes_max: usize,
    framing: Framing,
}

impl<B> LimitedBody<B> {
    pub(crate) fn new(inner: B, method: Arc<Method>, bytes_max: usize) -> Self {
        Self { inner, method, bytes_max, framing: Framing::default() }
    }

    fn refusal(&self) -> Status {
        error::resource_exhausted(
            self.method.domain,
            "REQUEST_TOO_LARGE",
            self.method.name,
            format!("a request message may have {} bytes at most", self.bytes_max),
            None,
        )
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                let status = Status::from_error(error.into());
                if status.code() == Code::Cancelled {
                    // The caller has reset the stream, and the call is dropped for that after this
                    // poll. An end, which is what tonic makes of it, would be a message that is
                    // missing, and the call a failure of ours.
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Err(status)));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            let longest = self.framing.read(data);
            if longest > self.bytes_max {
                return Poll::Ready(Some(Err(self.refusal())));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Where in a sequence of messages we are.
#[derive(Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX_BYTES],
    prefix_read: usize,
    /// Bytes of the current message still to come.
    message_left: usize,
}

impl Framing {
    /// Follows `data`; the longest message that begins in it.
    fn read(&mut self, mut data: &[u8]) -> usize {
        let mut longest = 0;
        while !data.is_empty() {
            let skipped = self.message_left.min(data.len());
            self.message_left -= skipped;
            data = &data[skipped..];
            let taken = (PREFIX_BYTES - self.prefix_read).min(data.len());
            self.prefix[self.prefix_read..self.prefix_read + taken].copy_from_slice(&data[..taken]);
            self.prefix_read += taken;
            data = &data[taken..];
            if self.prefix_read == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                longest = longest.max(length);
                self.message_left = length;
                self.prefix_read = 0;
            }
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::Framing;

    /// Three messages of 0, 300 and 2 bytes, given in chunks of each size.
    #[test]
    fn finds_lengths_however_the_bytes_are_cut() {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 1, 44];
        bytes.extend([7; 300]);
        bytes.extend([0, 0, 0, 0, 2, 255, 255]);
        for size in 1..=bytes.len() {
            let mut framing = Framing::default();
            let longest = bytes.chunks(size).map(|chunk| framing.read(chunk)).max();
            assert_eq!(longest, Some(300), "chunks of {size}");
            assert_eq!((framing.message_left, framing.prefix_read), (0, 0), "chunks of {size}");
        }
    }
}
