//! Batches that form and wait, first in, first out.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use forebay_pooling::Deadline;
use tokio::sync::oneshot;
use tracing::Span;

use super::{PointReadsBounds, PointReadsStats};
use crate::PgError;
use crate::reads::departed::Departed;

/// The answer for one key.
pub(super) type Answer<V> = Result<Option<V>, PgError>;

/// Everyone who waits for their batch to depart.
pub(super) struct Queue<K, V> {
    /// Only the last one may take more keys.
    batches: VecDeque<Batch<K, V>>,
    stats: PointReadsStats,
}

/// Keys that travel together, and who waits for them.
pub(super) struct Batch<K, V> {
    waiters: HashMap<K, Waiters<V>>,
    callers: usize,
    has_departed: Departed,
    /// The last instant at which anybody cares for the answer.
    pub(super) deadline: Deadline,
    /// Of the first caller: a statement needs a place in some trace.
    pub(super) span: Span,
}

/// Who waits for one key. Nearly always it is one.
pub(super) enum Waiters<V> {
    One(oneshot::Sender<Answer<V>>),
    Several(Vec<oneshot::Sender<Answer<V>>>),
}

/// A caller's place in a batch.
pub(super) struct Seat<V> {
    pub(super) answer: oneshot::Receiver<Answer<V>>,
    pub(super) has_departed: Departed,
}

impl<K: Eq + Hash, V> Queue<K, V> {
    pub(super) fn new() -> Self {
        Self { batches: VecDeque::new(), stats: PointReadsStats::default() }
    }

    /// A place in the last batch, or in a new one behind it.
    pub(super) fn board(
        &mut self,
        key: K,
        deadline: Deadline,
        bounds: &PointReadsBounds,
    ) -> Result<Seat<V>, PgError> {
        if self.stats.waiting >= bounds.waiting_max {
            self.stats.shed += 1;
            return Err(PgError::Shed { waiting: self.stats.waiting, predicted: None });
        }
        let (sender, answer) = oneshot::channel();
        let has_room = |batch: &Batch<K, V>| {
            batch.waiters.len() < bounds.keys_max || batch.waiters.contains_key(&key)
        };
        if !self.batches.back().is_some_and(has_room) {
            self.batches.push_back(Batch::new(deadline));
        }
        let batch = self.batches.back_mut().expect("one was pushed if there was none");
        if batch.board(key, sender, deadline) {
            self.stats.shared += 1;
        }
        self.stats.waiting += 1;
        Ok(Seat { answer, has_departed: batch.has_departed.clone() })
    }

    /// Whether one more batch may be under way. If so, it counts as such.
    pub(super) fn may_run(&mut self, bounds: &PointReadsBounds) -> bool {
        let may =
            !self.batches.is_empty() && self.stats.batches_in_flight < bounds.batches_in_flight_max;
        self.stats.batches_in_flight += usize::from(may);
        may
    }

    /// The next batch that somebody waits for. If there is none, one batch less is under way.
    pub(super) fn next(&mut self) -> Option<Batch<K, V>> {
        while let Some(mut batch) = self.batches.pop_front() {
            self.stats.waiting -= batch.callers;
            batch.waiters.retain(|_, waiters| waiters.stay());
            if batch.waiters.is_empty() {
                continue;
            }
            batch.has_departed.set();
            self.stats.batches += 1;
            self.stats.keys += u64::try_from(batch.waiters.len()).unwrap_or(u64::MAX);
            return Some(batch);
        }
        self.stats.batches_in_flight -= 1;
        None
    }

    /// One batch less is under way, and nobody will send the others.
    pub(super) fn end(&mut self) -> VecDeque<Batch<K, V>> {
        self.stats.batches_in_flight -= 1;
        self.stats.waiting = 0;
        std::mem::take(&mut self.batches)
    }
}

impl<K, V> Queue<K, V> {
    pub(super) fn stats(&self) -> PointReadsStats {
        self.stats
    }
}

impl<K: Eq + Hash, V> Batch<K, V> {
    fn new(deadline: Deadline) -> Self {
        Self {
            waiters: HashMap::new(),
            callers: 0,
            has_departed: Departed::default(),
            deadline,
            span: Span::current(),
        }
    }

    /// `true` if somebody waits for this key already.
    fn board(&mut self, key: K, sender: oneshot::Sender<Answer<V>>, deadline: Deadline) -> bool {
        self.callers += 1;
        self.deadline = self.deadline.max(deadline);
        match self.waiters.entry(key) {
            Entry::Vacant(place) => {
                place.insert(Waiters::One(sender));
                false
            }
            Entry::Occupied(mut place) => {
                place.get_mut().push(sender);
                true
            }
        }
    }

    /// The keys, each once.
    pub(super) fn keys(&self) -> Vec<&K> {
        self.waiters.keys().collect()
    }

    /// Takes those who wait for `key`; `None` if they were taken before, or never were.
    pub(super) fn take(&mut self, key: &K) -> Option<Waiters<V>> {
        self.waiters.remove(key)
    }

    /// Those who have not been taken.
    pub(super) fn into_waiters(self) -> impl Iterator<Item = Waiters<V>> {
        self.waiters.into_values()
    }
}

impl<V> Waiters<V> {
    fn push(&mut self, sender: oneshot::Sender<Answer<V>>) {
        match self {
            Self::Several(senders) => senders.push(sender),
            Self::One(_) => {
                if let Self::One(first) = std::mem::replace(self, Self::Several(vec![sender]))
                    && let Self::Several(senders) = self
                {
                    senders.push(first);
                }
            }
        }
    }

    /// Forgets callers that went away; `false` if all did.
    fn stay(&mut self) -> bool {
        match self {
            Self::One(sender) => !sender.is_closed(),
            Self::Several(senders) => {
                senders.retain(|sender| !sender.is_closed());
                !senders.is_empty()
            }
        }
    }

    /// Tells all of them. One that went away meanwhile is no failure.
    pub(super) fn answer(self, answer: &Answer<V>)
    where
        V: Clone,
    {
        match self {
            Self::One(sender) => drop(sender.send(answer.clone())),
            Self::Several(senders) => {
                for sender in senders {
                    drop(sender.send(answer.clone()));
                }
            }
        }
    }
}
