//! The line of callers that were let in and wait for a connection.
//!
//! bb8 wakes whoever it likes and lets a newcomer take what it woke another
//! one for. So nobody keeps what bb8 gives to it while others wait: whoever
//! gets a connection hands it to the first of the line, and a newcomer joins
//! the line before it looks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Callers that wait for a `C`, in the order of their tickets.
#[derive(Debug)]
pub(crate) struct Line<C> {
    waiting: Mutex<VecDeque<Waiter<C>>>,
    length: AtomicUsize,
    tickets: AtomicU64,
}

/// A place in time: who drew it earlier is served earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Debug)]
struct Waiter<C> {
    ticket: Ticket,
    turn: oneshot::Sender<C>,
}

impl<C> Line<C> {
    /// Nobody waits.
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(VecDeque::new()),
            length: AtomicUsize::new(0),
            tickets: AtomicU64::new(0),
        }
    }

    /// The next ticket. To be drawn the moment a caller is let in, and kept until it is served.
    pub(crate) fn draw(&self) -> Ticket {
        Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether a newcomer may help itself.
    pub(crate) fn is_empty(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    /// Takes the place in the line that `ticket` gives. Dropped, the place is free again.
    pub(crate) fn join(&self, ticket: Ticket) -> Place<'_, C> {
        let (turn, served) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        // From the back, because nearly everybody belongs there.
        let behind = waiting.iter().rposition(|waiter| waiter.ticket < ticket);
        waiting.insert(behind.map_or(0, |index| index + 1), Waiter { ticket, turn });
        self.length.store(waiting.len(), Ordering::Release);
        drop(waiting);
        Place { line: self, ticket, served }
    }

    /// Gives `connection` to the first who still waits, or back to the caller if nobody does.
    pub(crate) fn serve(&self, mut connection: C) -> Result<(), C> {
        loop {
            let Some(first) = self.pop() else {
                return Err(connection);
            };
            match first.turn.send(connection) {
                Ok(()) => return Ok(()),
                // It went away at this moment.
                Err(again) => connection = again,
            }
        }
    }

    fn pop(&self) -> Option<Waiter<C>> {
        let mut waiting = self.waiting.lock();
        let first = waiting.pop_front();
        self.length.store(waiting.len(), Ordering::Release);
        first
    }
}

/// One caller's place in the line.
#[derive(Debug)]
pub(crate) struct Place<'a, C> {
    line: &'a Line<C>,
    ticket: Ticket,
    served: oneshot::Receiver<C>,
}

impl<C> Place<'_, C> {
    /// The connection, when it is this caller's turn. Cancel-safe.
    pub(crate) async fn turn(&mut self) -> C {
        match (&mut self.served).await {
            Ok(connection) => connection,
            // The sender goes with its entry, and only `serve` and `drop` remove that.
            Err(_gone) => std::future::pending().await,
        }
    }
}

impl<C> Drop for Place<'_, C> {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting.lock();
        waiting.retain(|waiter| waiter.ticket != self.ticket);
        self.line.length.store(waiting.len(), Ordering::Release);
        drop(waiting);
        self.served.close();
        if let Ok(connection) = self.served.try_recv() {
            // Given at the last moment, so it is the next one's. With nobody left it goes back.
            drop(self.line.serve(connection));
        }
    }
}

#[cfg(test)]
mod tests;
