//! One timer for all statements of a connection.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use forebay_pooling::Deadline;
use tokio::runtime::Handle;
use tokio::time::{Sleep, sleep_until};

use crate::wire::failure::Failure;

/// Cuts statements off at their deadlines. The timer stays set between them: to put it off, as
/// nearly every statement does, needs no lock, while setting and removing one takes that of the
/// runtime twice. If it goes off in between, nobody listens.
#[derive(Default)]
pub(crate) struct CutOff(Option<Pin<Box<Sleep>>>);

impl CutOff {
    /// Does `work` until `deadline`. `runtime` is that of the connection, which the timer outlives
    /// the caller with.
    pub(crate) async fn by<T>(
        &mut self,
        deadline: Deadline,
        runtime: &Handle,
        mut work: Pin<&mut (impl Future<Output = Result<T, Failure>> + Send)>,
    ) -> Result<T, Failure> {
        let mut is_set = false;
        poll_fn(|context| {
            if let Poll::Ready(outcome) = work.as_mut().poll(context) {
                return Poll::Ready(outcome);
            }
            let timer = self.0.get_or_insert_with(|| {
                is_set = true;
                let _runtime = runtime.enter();
                Box::pin(sleep_until(deadline.instant()))
            });
            if !is_set {
                is_set = true;
                timer.as_mut().reset(deadline.instant());
            }
            timer.as_mut().poll(context).map(|()| Err(Failure::late()))
        })
        .await
    }
}
