//! Requests that go together: a short wait turns many small ones into one.
//!
//! The rule. While nothing is under way, what waits departs at once: whoever comes alone waits for
//! nobody. While something is under way, what comes next waits until it is back, for `WINDOW` at
//! most, or until a batch is full. So a burst costs a handful of batches however many requests it
//! has, and the busier the store is, the larger its batches are.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Keys of one batch at most: what one `= ANY($1)` and one `MGET` may hold up others for.
pub(crate) const BATCH_KEYS_MAX: usize = 1024;
/// Longest wait for others while a batch is under way. Tokio's timers count in milliseconds.
const WINDOW: Duration = Duration::from_millis(1);
/// Times that the scheduler is asked for more before a batch departs. It is asked again only if
/// the last time brought more, so a request that comes alone asks once.
const ROUNDS_MAX: usize = 16;

/// Something that waits to go with others.
pub(crate) trait Passenger {
    /// Keys that it asks for.
    fn keys(&self) -> usize;
}

/// Those who wait, and the batches under way.
pub(crate) struct Collector<T> {
    state: Mutex<State<T>>,
    changed: Notify,
    limits: Limits,
}

/// The bounds of a [`Collector`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Keys of one batch: with more, what waits departs at once.
    pub(crate) batch_keys_max: usize,
    /// Batches under way at once.
    pub(crate) under_way_max: usize,
    /// Keys that may wait; one more is refused.
    pub(crate) waiting_keys_max: usize,
}

struct State<T> {
    /// By their number, in the order in which they came.
    waiting: BTreeMap<u64, T>,
    waiting_keys: usize,
    /// The number of the next to come.
    next_number: u64,
    /// When the first of those who wait came.
    opened_at: Instant,
    under_way: usize,
    /// Whether somebody looks after those who wait.
    is_conducted: bool,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Joined<T> {
    /// It has this number, and will depart with others.
    Waiting(u64),
    /// It waits as well, and the caller must run [`Collector::next`] until there is no more.
    Conducts(u64),
    /// Too many wait.
    Refused(T),
}

/// Requests that depart together. They are under way until it is dropped.
pub(crate) struct Batch<T: Passenger> {
    pub(crate) passengers: Vec<T>,
    pub(crate) ride: Ride<T>,
}

/// Counts a batch as under way until it is dropped.
pub(crate) struct Ride<T: Passenger>(Arc<Collector<T>>);

impl<T: Passenger> Collector<T> {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let state = State {
            waiting: BTreeMap::new(),
            waiting_keys: 0,
            next_number: 0,
            opened_at: Instant::now(),
            under_way: 0,
            is_conducted: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), limits })
    }

    /// Lets `passenger` depart at once and alone, if nothing waits and nothing is under way.
    pub(crate) fn depart_alone(self: &Arc<Self>, passenger: T) -> Result<Batch<T>, T> {
        let mut state = self.state.lock();
        if state.under_way > 0 || !state.waiting.is_empty() {
            return Err(passenger);
        }
        state.under_way = 1;
        drop(state);
        Ok(Batch { passengers: vec![passenger], ride: Ride(Arc::clone(self)) })
    }

    /// Lets `passenger` wait for the next batch.
    pub(crate) fn join(&self, passenger: T) -> Joined<T> {
        let keys = passenger.keys();
        let mut state = self.state.lock();
        // Whoever finds nobody waiting may always wait, however much he asks for.
        let is_full = state.waiting_keys.saturating_add(keys) > self.limits.waiting_keys_max;
        if is_full && !state.waiting.is_empty() {
            return Joined::Refused(passenger);
        }
        if state.waiting.is_empty() {
            state.opened_at = Instant::now();
        }
        let was_full = state.waiting_keys >= self.limits.batch_keys_max;
        state.waiting_keys += keys;
        let number = state.next_number;
        state.next_number += 1;
        state.waiting.insert(number, passenger);
        let is_full = state.waiting_keys >= self.limits.batch_keys_max;
        if !std::mem::replace(&mut state.is_conducted, true) {
            return Joined::Conducts(number);
        }
        drop(state);
        if is_full && !was_full {
            self.changed.notify_one();
        }
        Joined::Waiting(number)
    }

    /// Lets a passenger ask for less, and leave if that is nothing; the keys that he still asks for.
    /// `None` if he has departed.
    pub(crate) fn ask_less(&self, number: u64, change: impl FnOnce(&mut T)) -> Option<usize> {
        let mut state = self.state.lock();
        let passenger = state.waiting.get_mut(&number)?;
        let before = passenger.keys();
        change(passenger);
        let after = passenger.keys();
        state.waiting_keys = state.waiting_keys + after - before;
        let gone = if after == 0 { state.waiting.remove(&number) } else { None };
        drop(state);
        drop(gone);
        Some(after)
    }

    /// Waits until a batch may depart, or until all have left. The flag says whether nobody waits
    /// after it: then whoever asked is done, and the next to come conducts.
    pub(crate) async fn next(self: &Arc<Self>) -> Option<(Batch<T>, bool)> {
        let mut rounds = 0;
        loop {
            let changed = self.changed.notified();
            let (departure, waiting) = {
                let state = self.state.lock();
                (self.departure(&state), state.waiting.len())
            };
            match departure {
                Departure::Now => {}
                Departure::At(instant) => {
                    // Either way the question is asked again.
                    drop(tokio::time::timeout_at(instant, changed).await);
                    continue;
                }
                Departure::WhenOneIsBack => {
                    changed.await;
                    continue;
                }
            }
            // Others may be about to ask as well: whatever is ready to run gets its turn first.
            tokio::task::yield_now().await;
            rounds += 1;
            let mut state = self.state.lock();
            if state.waiting.is_empty() {
                state.is_conducted = false;
                return None;
            }
            let is_growing = state.waiting.len() > waiting;
            if is_growing && state.waiting_keys < self.limits.batch_keys_max && rounds < ROUNDS_MAX
            {
                continue;
            }
            let passengers = state.take(self.limits.batch_keys_max);
            state.under_way += 1;
            let is_last = state.waiting.is_empty();
            state.is_conducted = !is_last;
            drop(state);
            return Some((Batch { passengers, ride: Ride(Arc::clone(self)) }, is_last));
        }
    }

    /// Batches under way, and keys that wait.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.under_way, state.waiting_keys)
    }

    fn departure(&self, state: &State<T>) -> Departure {
        let until = state.opened_at + WINDOW;
        if state.under_way == 0 {
            Departure::Now
        } else if state.under_way >= self.limits.under_way_max {
            Departure::WhenOneIsBack
        } else if state.waiting_keys >= self.limits.batch_keys_max || Instant::now() >= until {
            Departure::Now
        } else {
            Departure::At(until)
        }
    }
}

enum Departure {
    Now,
    At(Instant),
    WhenOneIsBack,
}

impl<T: Passenger> State<T> {
    /// Those who depart now, in the order in which they came: as many as fit, one at least.
    fn take(&mut self, keys_max: usize) -> Vec<T> {
        let mut keys = 0;
        let mut first_left = self.next_number;
        for (count, (number, passenger)) in self.waiting.iter().enumerate() {
            if count > 0 && keys + passenger.keys() > keys_max {
                first_left = *number;
                break;
            }
            keys += passenger.keys();
        }
        self.waiting_keys -= keys;
        // Those who are left have waited already, so their window is not renewed.
        let left = self.waiting.split_off(&first_left);
        std::mem::replace(&mut self.waiting, left).into_values().collect()
    }
}

impl<T: Passenger> Drop for Ride<T> {
    fn drop(&mut self) {
        self.0.state.lock().under_way -= 1;
        self.0.changed.notify_one();
    }
}

impl<T: Passenger> Debug for Collector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (under_way, waiting_keys) = self.usage();
        f.debug_struct("Collector")
            .field("under_way", &under_way)
            .field("waiting_keys", &waiting_keys)
            .finish_non_exhaustive()
    }
}

impl<T: Passenger> Debug for Ride<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ride")
    }
}

#[cfg(test)]
mod tests;
