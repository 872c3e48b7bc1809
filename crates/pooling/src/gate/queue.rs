//! Those who wait: one list for each priority, and whose turn it is.

use std::task::Waker;

use tokio::time::Instant;

use super::leases::Caller;
use crate::Priority;

/// Permits that Interactive gets for each one of Batch while both wait.
///
/// Eight keeps the cost of Batch to interactive callers at a ninth, and still moves Batch on.
const INTERACTIVE_PER_BATCH: u32 = 8;

/// What a waiter finds when it looks.
#[derive(Debug)]
pub(super) enum Turn<C> {
    /// Not yet; wake this one when it comes. `None` until the waiter was polled.
    Waiting(Option<Waker>),
    /// It holds this lease, and perhaps what the holder before it passed on.
    Given(usize, Option<C>),
    /// Its deadline has passed.
    Expired,
    /// The gate closed.
    Closed,
}

/// All waiters.
///
/// The lists are linked through one vector. So a waiter that goes away is taken
/// out at once wherever it stands, and no dead entry is left for others to step over.
#[derive(Debug)]
pub(super) struct Queue<C> {
    entries: Vec<Entry<C>>,
    free: Vec<usize>,
    lists: [List; 3],
    /// Interactive waiters served since Batch last was, while Batch waited.
    interactive_in_a_row: u32,
}

#[derive(Debug)]
struct Entry<C> {
    caller: Caller,
    since: Instant,
    deadline: Instant,
    turn: Turn<C>,
    before: Option<usize>,
    after: Option<usize>,
}

#[derive(Debug, Default)]
struct List {
    first: Option<usize>,
    last: Option<usize>,
    length: usize,
}

impl<C> Queue<C> {
    /// Nobody waits.
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            lists: Default::default(),
            interactive_in_a_row: 0,
        }
    }

    /// Callers of one priority that wait.
    pub(super) fn waiting(&self, priority: Priority) -> usize {
        self.lists[priority.index()].length
    }

    /// Callers that wait.
    pub(super) fn waiting_all(&self) -> usize {
        self.lists.iter().map(|list| list.length).sum()
    }

    /// Since when the longest waiter waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lists.iter().filter_map(|list| list.first).map(|entry| self.entries[entry].since).min()
    }

    /// Waiters that are served before one of `priority` that comes now, as things are.
    pub(super) fn ahead_of(&self, priority: Priority) -> usize {
        let own = self.waiting(priority);
        let per_batch = usize::try_from(INTERACTIVE_PER_BATCH).unwrap_or(usize::MAX);
        let others = match priority {
            Priority::Interactive => self.waiting(Priority::Batch).min(own / per_batch),
            Priority::Batch => {
                let turns = own.saturating_add(1).saturating_mul(per_batch);
                self.waiting(Priority::Interactive).min(turns)
            }
            Priority::Admin => return own,
        };
        own + others + self.waiting(Priority::Admin)
    }

    /// Puts a caller at the end of its list and names its entry.
    pub(super) fn join(&mut self, caller: Caller, since: Instant, deadline: Instant) -> usize {
        let before = self.lists[caller.priority.index()].last;
        let turn = Turn::Waiting(None);
        let entry = Entry { caller, since, deadline, turn, before, after: None };
        let index = if let Some(index) = self.free.pop() {
            self.entries[index] = entry;
            index
        } else {
            self.entries.push(entry);
            self.entries.len() - 1
        };
        match before {
            Some(before) => self.entries[before].after = Some(index),
            None => self.lists[caller.priority.index()].first = Some(index),
        }
        let list = &mut self.lists[caller.priority.index()];
        list.last = Some(index);
        list.length += 1;
        index
    }

    /// The entry whose turn it is, taken off its list. `may_enter` tells whether there is a
    /// permit for a priority.
    pub(super) fn next(&mut self, may_enter: impl Fn(Priority) -> bool) -> Option<usize> {
        let waits = |priority| self.waiting(priority) > 0 && may_enter(priority);
        let (interactive, batch) = (waits(Priority::Interactive), waits(Priority::Batch));
        let priority = if waits(Priority::Admin) {
            Priority::Admin
        } else if interactive && batch && self.interactive_in_a_row < INTERACTIVE_PER_BATCH {
            self.interactive_in_a_row += 1;
            Priority::Interactive
        } else if batch {
            self.interactive_in_a_row = 0;
            Priority::Batch
        } else if interactive {
            // Nobody of Batch waits, so nothing is owed to it.
            self.interactive_in_a_row = 0;
            Priority::Interactive
        } else {
            return None;
        };
        let entry = self.lists[priority.index()].first?;
        self.unlink(entry);
        Some(entry)
    }

    /// Entries, used and free.
    #[cfg(test)]
    pub(super) fn places(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn caller(&self, entry: usize) -> Caller {
        self.entries[entry].caller
    }

    pub(super) fn turn(&mut self, entry: usize) -> &mut Turn<C> {
        &mut self.entries[entry].turn
    }

    /// Forgets a waiter, wherever it stands, and tells what it would have found.
    pub(super) fn leave(&mut self, entry: usize) -> Turn<C> {
        let turn = std::mem::replace(&mut self.entries[entry].turn, Turn::Waiting(None));
        if let Turn::Waiting(_) = turn {
            self.unlink(entry);
        }
        self.free.push(entry);
        turn
    }

    /// Takes everyone off the lists, tells them, and returns whom to wake.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(entry) = self.next(|_| true) {
            if let Turn::Waiting(Some(waker)) = std::mem::replace(self.turn(entry), Turn::Closed) {
                wakers.push(waker);
            }
        }
        wakers
    }

    /// The wakers of everyone who waits; each leaves another when it has looked.
    pub(super) fn rouse(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::with_capacity(self.waiting_all());
        self.each(|queue, entry| {
            if let Turn::Waiting(waker) = queue.turn(entry) {
                wakers.extend(waker.take());
            }
        });
        wakers
    }

    /// Takes those off the lists whose deadline is not after `now`, tells them, and returns how
    /// many they are, whom to wake, and the nearest deadline of the others.
    pub(super) fn expire(&mut self, now: Instant) -> (u64, Vec<Waker>, Option<Instant>) {
        let (mut count, mut wakers, mut nearest) = (0, Vec::new(), None);
        self.each(|queue, entry| {
            let deadline = queue.entries[entry].deadline;
            if deadline > now {
                nearest = Some(nearest.map_or(deadline, |other: Instant| other.min(deadline)));
                return;
            }
            count += 1;
            queue.unlink(entry);
            if let Turn::Waiting(Some(waker)) = std::mem::replace(queue.turn(entry), Turn::Expired)
            {
                wakers.push(waker);
            }
        });
        (count, wakers, nearest)
    }

    /// Shows everyone who waits, each of whom may be taken off its list.
    fn each(&mut self, mut show: impl FnMut(&mut Self, usize)) {
        for index in 0..self.lists.len() {
            let mut next = self.lists[index].first;
            while let Some(entry) = next {
                next = self.entries[entry].after;
                show(self, entry);
            }
        }
    }

    fn unlink(&mut self, entry: usize) {
        let Entry { caller, before, after, .. } = self.entries[entry];
        match before {
            Some(before) => self.entries[before].after = after,
            None => self.lists[caller.priority.index()].first = after,
        }
        match after {
            Some(after) => self.entries[after].before = before,
            None => self.lists[caller.priority.index()].last = before,
        }
        self.lists[caller.priority.index()].length -= 1;
    }
}
