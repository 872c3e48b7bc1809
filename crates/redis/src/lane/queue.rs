//! Requests that wait on a lane, in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::delivery::{Delivered, Refused, Returned};
use crate::offline::{Offline, OfflinePlace};
use crate::request::{Payload, Request};

/// A request that waits, and where its answer goes.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) ticket: u64,
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Delivered>,
    /// Failed attempts of the lane to connect when it came.
    failures_before: u64,
    /// Held while the lane has no connection.
    place: Option<OfflinePlace>,
}

impl Queued {
    /// Tells the caller that the request was not sent.
    pub(super) fn refuse(self, why: Refused) {
        // A caller that is gone needs no answer.
        let _gone = self.reply.send(Err(Returned::Unsent(why)));
    }
}

/// A first-in-first-out queue whose entries may also leave from the middle.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: VecDeque<Queued>,
    tickets: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a request at the end. Tickets grow from front to back.
    pub(super) fn push(
        &mut self,
        request: Request,
        failures_before: u64,
        place: Option<OfflinePlace>,
    ) -> (u64, oneshot::Receiver<Delivered>) {
        let (reply, answer) = oneshot::channel();
        self.tickets += 1;
        let ticket = self.tickets;
        self.entries.push_back(Queued { ticket, request, reply, failures_before, place });
        (ticket, answer)
    }

    /// Removes a request that has not been sent; `None` if it has. Tells whether it waited for a
    /// connection.
    pub(super) fn withdraw(&mut self, ticket: u64) -> Option<bool> {
        let index = self.entries.binary_search_by_key(&ticket, |queued| queued.ticket).ok()?;
        self.entries.remove(index).map(|queued| queued.place.is_some())
    }

    /// The requests that travel together next, of at most `room` commands; one at least, because
    /// a pipeline larger than the lane would wait for ever.
    ///
    /// The answers of a message are handed out together, so a plain command does not travel with a
    /// script, which may be slow, and a pipeline travels alone.
    pub(super) fn take_message(&mut self, room: usize) -> Vec<Queued> {
        let kind = |queued: &Queued| match queued.request.payload {
            Payload::One(_) => Some(queued.request.head.script.is_some()),
            Payload::Many(_) => None,
        };
        let Some(first) = self.entries.front().map(kind) else {
            return Vec::new();
        };
        let alike = |queued: &&Queued| first.is_some() && kind(queued) == first;
        let count = self.entries.iter().take(room).take_while(alike).count().max(1);
        self.entries.drain(..count).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<Queued> {
        self.entries.drain(..).collect()
    }

    /// Removes those that have seen more than `failures_max` failed attempts to connect.
    pub(super) fn take_while_since(&mut self, failures: u64, failures_max: u64) -> Vec<Queued> {
        let tired = |queued: &&Queued| failures - queued.failures_before > failures_max;
        let count = self.entries.iter().take_while(tired).count();
        self.entries.drain(..count).collect()
    }

    /// The lane has a connection: what waits does not count as offline any more.
    pub(super) fn came_online(&mut self) {
        for queued in &mut self.entries {
            queued.place = None;
            queued.failures_before = 0;
        }
    }

    /// The lane lost its connection: what waits needs a place in the offline queue. Those for which
    /// there is none are returned.
    pub(super) fn went_offline(&mut self, offline: &Arc<Offline>) -> Vec<Queued> {
        let mut surplus = Vec::new();
        for mut queued in self.take_all() {
            if queued.place.is_none() {
                queued.place = offline.take(queued.request.bytes()).ok();
            }
            if queued.place.is_some() {
                self.entries.push_back(queued);
            } else {
                surplus.push(queued);
            }
        }
        surplus
    }
}

#[cfg(test)]
mod tests;
