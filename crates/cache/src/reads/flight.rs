//! Single flight: at most one read of a key is under way at a time.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::hash::BuildHasherDefault;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Context;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::l1::key::KnownHash;
use crate::{CacheError, Entity, Loader, Lookup};

/// Shards of the map, so that reads of different keys seldom meet.
const SHARDS: usize = 64;

/// The answer of a flight.
pub(crate) type Landed<E, L> = Result<Lookup<E>, CacheError<<L as Loader<E>>::Error>>;
/// One who waits for the answer, and where it appears.
pub(crate) struct Arrival<E: Entity, L: Loader<E>>(Arc<Gate<E, L>>);

/// Where those wait who are on a flight.
struct Gate<E: Entity, L: Loader<E>> {
    answer: OnceLock<Landed<E, L>>,
    answered: Notify,
    waiting: AtomicUsize,
    /// Is told when nobody waits any more.
    deserted: AtomicWaker,
}

/// The reads under way of one entity.
pub(crate) struct Flights<E: Entity, L: Loader<E>>(Vec<Shard<E, L>>);

struct Shard<E: Entity, L: Loader<E>> {
    /// By the hash of the key. Should two keys have the same one, the later flight takes the place.
    flights: Mutex<ByHash<E, L>>,
    /// Flights that have left the map.
    left: AtomicU64,
}

type ByHash<E, L> = HashMap<u64, Flight<E, L>, BuildHasherDefault<KnownHash>>;

struct Flight<E: Entity, L: Loader<E>> {
    key: E::Key,
    /// The answer contains every change committed before this.
    fresh_at: Instant,
    generation: u64,
    gate: Arc<Gate<E, L>>,
}

/// What a caller found when it wanted to read a key.
pub(crate) enum Boarding<E: Entity, L: Loader<E>> {
    /// The answer came meanwhile.
    Answered(Lookup<E>),
    /// Somebody else reads it.
    Joined(Arrival<E, L>),
    /// The caller must read it.
    Leads(Ticket<E, L>, Arrival<E, L>),
}

/// The duty to read one key. Dropped without an answer, it lets the waiting callers know.
pub(crate) struct Ticket<E: Entity, L: Loader<E>> {
    pub(crate) key: E::Key,
    pub(crate) hash: u64,
    /// The generation of the key's stripe before the read began.
    pub(crate) generation: u64,
    /// When that entry was filled that is to be replaced by a newer one, if one is.
    pub(crate) renews: Option<u64>,
    flights: Arc<Flights<E, L>>,
    gate: Arc<Gate<E, L>>,
    is_aboard: bool,
}

/// Those who wait for one ticket.
pub(crate) struct Waiters<E: Entity, L: Loader<E>> {
    hash: u64,
    flights: Arc<Flights<E, L>>,
    gate: Arc<Gate<E, L>>,
}

impl<E: Entity, L: Loader<E>> Flights<E, L> {
    pub(crate) fn new() -> Arc<Self> {
        let shard = || Shard { flights: Mutex::default(), left: AtomicU64::new(0) };
        Arc::new(Self((0..SHARDS).map(|_| shard()).collect()))
    }

    /// How many flights have left the part of the map where a key is.
    pub(crate) fn left(&self, hash: u64) -> u64 {
        self.shard(hash).left.load(Ordering::SeqCst)
    }

    /// Joins the flight of a key or starts one.
    ///
    /// A flight is joined only if its answer contains every change committed before `since`, so that
    /// it is as fresh as the caller asks for, and if the key was not invalidated since: whoever reads
    /// after his own write must not be handed what was read before it. Without an instant no flight
    /// is joined. A flight that is started contains every change committed before `fresh_at`.
    ///
    /// `generation` and `look_again` are asked under the lock. A flight stores its answer before
    /// it leaves the map, so a caller who finds no flight finds the answer by looking again. That
    /// is left out if no more have left it than `left`, noted before L1 was looked at.
    pub(crate) fn board(
        self: &Arc<Self>,
        (key, hash): (&E::Key, u64),
        (since, fresh_at): (Option<Instant>, Instant),
        left: Option<u64>,
        generation: impl FnOnce() -> u64,
        look_again: impl FnOnce() -> Option<Lookup<E>>,
    ) -> Boarding<E, L> {
        let shard = self.shard(hash);
        let mut flights = shard.flights.lock();
        let generation = generation();
        if let Some(since) = since {
            if left.is_none_or(|left| shard.left.load(Ordering::SeqCst) != left)
                && let Some(answer) = look_again()
            {
                return Boarding::Answered(answer);
            }
            if let Some(flight) = flights.get(&hash)
                && flight.key == *key
                && flight.generation == generation
                && flight.fresh_at >= since
            {
                return Boarding::Joined(Arrival::at(&flight.gate));
            }
        }
        let gate = Arc::new(Gate {
            answer: OnceLock::new(),
            answered: Notify::new(),
            waiting: AtomicUsize::new(0),
            deserted: AtomicWaker::new(),
        });
        let arrival = Arrival::at(&gate);
        let own = Arc::clone(&gate);
        let flight = Flight { key: key.clone(), fresh_at, generation, gate: own };
        // A flight that cannot be joined any more goes on for those who wait for it.
        flights.insert(hash, flight);
        drop(flights);
        let (key, flights) = (key.clone(), Arc::clone(self));
        let renews = None;
        let ticket = Ticket { key, hash, generation, renews, flights, gate, is_aboard: true };
        Boarding::Leads(ticket, arrival)
    }

    /// Whether a key with this hash is being read, or was read and is not in L1 yet.
    pub(crate) fn is_under_way(&self, hash: u64) -> bool {
        self.shard(hash).flights.lock().contains_key(&hash)
    }

    /// Keys that are being read and may be joined.
    pub(crate) fn under_way(&self) -> usize {
        self.0.iter().map(|shard| shard.flights.lock().len()).sum()
    }

    fn shard(&self, hash: u64) -> &Shard<E, L> {
        let shards = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        // The low bits choose the fence's stripe; the high ones spread just as well.
        &self.0[usize::try_from((hash >> 32) % shards).unwrap_or(0)]
    }
}

impl<E: Entity, L: Loader<E>> Ticket<E, L> {
    /// Gives the answer to everyone who waits. It must be in L1 by now.
    pub(crate) fn land(mut self, answer: Landed<E, L>) {
        self.leave_map();
        self.tell(answer);
    }

    /// Gives the answer to everyone who waits and whoever comes until the ticket is dropped. It must
    /// be in L1 by then.
    pub(crate) fn tell(&self, answer: Landed<E, L>) {
        // The first answer is the answer.
        if self.gate.answer.set(answer).is_ok() {
            self.gate.answered.notify_waiters();
        }
    }

    /// Those who wait for it.
    pub(crate) fn waiters(&self) -> Waiters<E, L> {
        let (flights, gate) = (Arc::clone(&self.flights), Arc::clone(&self.gate));
        Waiters { hash: self.hash, flights, gate }
    }

    fn leave_map(&mut self) {
        if !std::mem::replace(&mut self.is_aboard, false) {
            return;
        }
        let shard = self.flights.shard(self.hash);
        let mut flights = shard.flights.lock();
        remove(&mut flights, self.hash, &self.gate);
        // Under the lock, and for all: one that was replaced has stored its answer as well.
        shard.left.fetch_add(1, Ordering::SeqCst);
    }
}

fn remove<E: Entity, L: Loader<E>>(flights: &mut ByHash<E, L>, hash: u64, gate: &Arc<Gate<E, L>>) {
    if flights.get(&hash).is_some_and(|flight| Arc::ptr_eq(&flight.gate, gate)) {
        flights.remove(&hash);
    }
}

impl<E: Entity, L: Loader<E>> Waiters<E, L> {
    /// Whether all have gone. If not, the task that asked last is woken when they have.
    pub(crate) fn have_gone(&self, task: &Context<'_>) -> bool {
        // In this order, or the last could go unnoticed between the two.
        self.gate.deserted.register(task.waker());
        self.gate.waiting.load(Ordering::SeqCst) == 0
    }

    /// If all have gone, lets nobody join them any more; whether it is so.
    pub(crate) fn close(&self) -> bool {
        // Others join under the lock.
        let mut flights = self.flights.shard(self.hash).flights.lock();
        let have_gone = self.gate.waiting.load(Ordering::SeqCst) == 0;
        if have_gone {
            remove(&mut flights, self.hash, &self.gate);
        }
        have_gone
    }
}

impl<E: Entity, L: Loader<E>> Arrival<E, L> {
    fn at(gate: &Arc<Gate<E, L>>) -> Self {
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(gate))
    }
}

impl<E: Entity, L: Loader<E>> Drop for Arrival<E, L> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.deserted.wake();
        }
    }
}

impl<E: Entity, L: Loader<E>> Drop for Ticket<E, L> {
    fn drop(&mut self) {
        self.leave_map();
        // Lost, if it has no answer by now.
        self.tell(Err(CacheError::LoaderPanicked));
    }
}

impl<E: Entity, L: Loader<E>> Debug for Flights<E, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("under_way", &self.under_way()).finish()
    }
}

impl<E: Entity, L: Loader<E>> Arrival<E, L> {
    /// The answer, if it has come.
    pub(crate) fn answer(&self) -> Option<&Landed<E, L>> {
        self.0.answer.get()
    }
}

/// Waits for the answer of a flight.
pub(crate) async fn arrive<E: Entity, L: Loader<E>>(arrival: Arrival<E, L>) -> Landed<E, L> {
    loop {
        // Made before the look, so an answer between the two is not missed.
        let answered = arrival.0.answered.notified();
        if let Some(answer) = arrival.0.answer.get() {
            return answer.clone();
        }
        answered.await;
    }
}

#[cfg(test)]
mod tests;
