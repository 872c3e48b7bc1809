//! A request for keys that waits for its load. It asks for those only that somebody waits for.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{Answer, Request};
use crate::reads::behind::Wanted;
use crate::reads::collector::Collector;
use crate::{CacheError, Entity, Loader};

/// A request that waits. It leaves the queue when it is dropped.
pub(super) struct Queued<'a, E: Entity, L: Loader<E>> {
    collector: Arc<Collector<Request<E, L>>>,
    number: u64,
    /// The keys that may be given up, and where the request has them.
    wanted: Vec<(usize, &'a Wanted<E, L>)>,
}

impl<'a, E: Entity, L: Loader<E>> Queued<'a, E, L> {
    pub(super) fn new(
        collector: &Arc<Collector<Request<E, L>>>,
        number: u64,
        wanted: &[&'a Wanted<E, L>],
    ) -> Self {
        let wanted = wanted.iter().copied().enumerate().collect();
        Self { collector: Arc::clone(collector), number, wanted }
    }

    /// Waits for the answer. It is `None` if nobody waits for any of the keys and the load has not
    /// begun.
    pub(super) async fn answer(
        mut self,
        mut answered: oneshot::Receiver<Answer<E, L>>,
    ) -> Option<Answer<E, L>> {
        poll_fn(|task| match answered.poll_unpin(task) {
            // Nobody answered: the task of the load is gone.
            Poll::Ready(answer) => {
                Poll::Ready(Some(answer.unwrap_or(Err(CacheError::LoaderPanicked))))
            }
            Poll::Pending if self.give_up(task) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Takes the keys out of the queue that nobody waits for; whether none is left.
    fn give_up(&mut self, task: &Context<'_>) -> bool {
        let have_gone = |(_, wanted): &mut (_, &Wanted<E, L>)| wanted.waiters.have_gone(task);
        let gone: Vec<_> = self.wanted.extract_if(.., have_gone).collect();
        if gone.is_empty() {
            return false;
        }
        let left = self.collector.ask_less(self.number, |request| {
            for (index, wanted) in gone {
                if wanted.waiters.close() {
                    request.keys[index] = None;
                } else {
                    // Somebody came meanwhile.
                    self.wanted.push((index, wanted));
                }
            }
        });
        if left.is_none() {
            // The load has begun, and goes on for the cache.
            self.wanted.clear();
        }
        left == Some(0)
    }
}

impl<E: Entity, L: Loader<E>> Drop for Queued<'_, E, L> {
    fn drop(&mut self) {
        self.collector.ask_less(self.number, |request| request.keys.clear());
    }
}
