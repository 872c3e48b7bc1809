//! A connection reads so much at a time and no more before it looks at what came.
//!
//! The library reads until the socket is empty and hands calls over after that. A client that
//! calls and cancels faster than we run, as one with short deadlines does while this process is
//! busy, would have that many cancelled calls pile up unseen, and be cut off as an attacker with
//! all its other calls.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf, Take};

/// Bytes that one poll of a connection reads at most.
///
/// A call that is cancelled at once has 25 of them at least: two frame headers of 9, an error
/// code of 4, and the three fields without which there is no request (RFC 9113, sections 6.2, 6.4
/// and 8.3.1). So at most 656 can be unseen. A large message costs a wake-up for each part.
const BYTES_PER_POLL: u64 = 16 * 1024;

/// What one connection may still read. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Ration(Arc<AtomicU64>);

impl Ration {
    /// To be called before each poll of the connection.
    pub(super) fn refill(&self) {
        self.0.store(BYTES_PER_POLL, Ordering::Relaxed);
    }
}

/// Reads no more than its ration.
#[derive(Debug)]
pub(super) struct Rationed<R> {
    inner: Take<R>,
    ration: Ration,
}

impl<R: AsyncRead> Rationed<R> {
    pub(super) fn new(inner: R, ration: Ration) -> Self {
        Self { inner: inner.take(0), ration }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Rationed<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.ration.0.load(Ordering::Relaxed);
        if left == 0 {
            // There may be more, and the next poll may read it.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.set_limit(left);
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.ration.0.store(self.inner.limit(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    //! What is read in one poll.

    use futures_util::FutureExt as _;
    use tokio::io::AsyncReadExt as _;

    use super::{BYTES_PER_POLL, Ration, Rationed};

    /// Fails when a poll reads as much as there is.
    #[tokio::test]
    async fn reads_a_ration_for_each_refill() {
        let bytes = usize::try_from(BYTES_PER_POLL).expect("a small number");
        let all = vec![7; bytes * 2 + 1];
        let ration = Ration::default();
        let mut rationed = Rationed::new(all.as_slice(), ration.clone());
        let mut read = Vec::new();
        for expected in [bytes, bytes * 2, all.len()] {
            ration.refill();
            let end = rationed.read_to_end(&mut read).now_or_never();
            assert_eq!(read.len(), expected);
            assert_eq!(end.is_some(), expected == all.len(), "{end:?}");
        }
    }
}
