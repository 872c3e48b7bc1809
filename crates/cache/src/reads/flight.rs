//! Single flight: at most one read of a key is under way at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::{CacheError, Entity, Loader, Lookup};

/// Shards of the map, so that reads of different keys seldom meet.
const SHARDS: usize = 64;

/// The answer of a flight.
pub(crate) type Landed<E, L> = Result<Lookup<E>, CacheError<<L as Loader<E>>::Error>>;
/// Where the answer appears. It ends without one if the flight was lost, by a panic.
pub(crate) type Arrival<E, L> = watch::Receiver<Option<Landed<E, L>>>;

/// The reads under way of one entity.
pub(crate) struct Flights<E: Entity, L: Loader<E>> {
    shards: Vec<Mutex<Shard<E, L>>>,
    next_number: AtomicU64,
}

type Shard<E, L> = HashMap<<E as Entity>::Key, Flight<E, L>>;

struct Flight<E: Entity, L: Loader<E>> {
    number: u64,
    /// The answer contains every change committed before this.
    fresh_at: Instant,
    generation: u64,
    arrival: Arrival<E, L>,
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
    number: u64,
    flights: Arc<Flights<E, L>>,
    sender: watch::Sender<Option<Landed<E, L>>>,
}

impl<E: Entity, L: Loader<E>> Flights<E, L> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| Mutex::new(HashMap::new())).collect(),
            next_number: AtomicU64::new(0),
        })
    }

    /// Joins the flight of a key or starts one.
    ///
    /// A flight is joined only if its answer contains every change committed before `since`, so that
    /// it is as fresh as the caller asks for, and if the key was not invalidated since: whoever reads after his own write
    /// must not be handed what was read before it. Without an instant no flight is joined.
    /// A flight that is started contains every change committed before `fresh_at`.
    ///
    /// `generation` and `look_again` are asked under the lock. A flight stores its answer before
    /// it leaves the map, so a caller who finds no flight finds the answer by looking again.
    pub(crate) fn board(
        self: &Arc<Self>,
        key: &E::Key,
        hash: u64,
        since: Option<Instant>,
        fresh_at: Instant,
        generation: impl FnOnce() -> u64,
        look_again: impl FnOnce() -> Option<Lookup<E>>,
    ) -> Boarding<E, L> {
        let mut shard = self.shard(hash).lock();
        let generation = generation();
        if let Some(since) = since {
            if let Some(answer) = look_again() {
                return Boarding::Answered(answer);
            }
            if let Some(flight) = shard.get(key)
                && flight.generation == generation
                && flight.fresh_at >= since
            {
                return Boarding::Joined(flight.arrival.clone());
            }
        }
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (sender, arrival) = watch::channel(None);
        let flight = Flight { number, fresh_at, generation, arrival: arrival.clone() };
        // A flight that cannot be joined any more goes on for those who wait for it.
        shard.insert(key.clone(), flight);
        let flights = Arc::clone(self);
        let ticket = Ticket { key: key.clone(), hash, generation, number, flights, sender };
        Boarding::Leads(ticket, arrival)
    }

    /// Keys that are being read and may be joined.
    pub(crate) fn under_way(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard<E, L>> {
        let shards = u64::try_from(self.shards.len()).unwrap_or(u64::MAX);
        // The low bits choose the fence's stripe; the high ones spread just as well.
        &self.shards[usize::try_from((hash >> 32) % shards).unwrap_or(0)]
    }
}

impl<E: Entity, L: Loader<E>> Ticket<E, L> {
    /// Gives the answer to everyone who waits. It must be in L1 by now.
    pub(crate) fn land(self, answer: Landed<E, L>) {
        self.leave_map();
        self.sender.send_replace(Some(answer));
    }

    fn leave_map(&self) {
        let mut shard = self.flights.shard(self.hash).lock();
        if let Place::Occupied(place) = shard.entry(self.key.clone())
            && place.get().number == self.number
        {
            place.remove();
        }
    }
}

impl<E: Entity, L: Loader<E>> Drop for Ticket<E, L> {
    fn drop(&mut self) {
        self.leave_map();
    }
}

impl<E: Entity, L: Loader<E>> Debug for Flights<E, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("under_way", &self.under_way()).finish()
    }
}

/// Waits for the answer of a flight.
pub(crate) async fn arrive<E: Entity, L: Loader<E>>(mut arrival: Arrival<E, L>) -> Landed<E, L> {
    match arrival.wait_for(Option::is_some).await {
        Ok(answer) => match answer.as_ref() {
            Some(answer) => answer.clone(),
            None => Err(CacheError::LoaderPanicked),
        },
        // The flight was lost without an answer.
        Err(_closed) => Err(CacheError::LoaderPanicked),
    }
}
