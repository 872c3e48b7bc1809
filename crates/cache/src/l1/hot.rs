//! Seats for keys that are read all the time, in front of moka.
//!
//! moka keeps books of every read: a clock, an epoch, a queue. A key that is read all the time does
//! not need that each time. Its slot has a seat here, which is found under a shared lock. moka is
//! told of the first reads of a seat and of some of those after them, which is enough for it to know
//! what is wanted.
//!
//! A seat holds no value: when moka lets the slot go, the seat is empty. It is taken, and emptied,
//! under the lock of the key's stripe, in which moka's entry changes as well. So it never has a slot
//! that was removed or replaced.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::l1::local::{EntityId, Slot};

/// Rows of seats; each has a lock. In all there is room for 4,096 keys, of about 200 bytes each.
const ROWS: usize = 1024;
const SEATS: usize = 4;
/// moka is told of that many reads of a key that has a new seat: it counts no further, ...
const FIRST: u32 = 16;
/// ... and then of one in so many.
const EVERY: u32 = 32;
/// One in so many reads of keys without a seat gets one: what is read all the time soon has it, and
/// what is read once seldom takes it away from others.
const SEATED: u32 = 8;

/// The seats.
pub(crate) struct Hot(Box<[RwLock<Row>]>);

#[derive(Debug, Default)]
struct Row {
    seats: [Option<Seat>; SEATS],
    /// Reads of keys that had no seat.
    others: AtomicU32,
}

#[derive(Debug)]
struct Seat {
    entity: EntityId,
    hash: u64,
    slot: Weak<Slot>,
    reads: AtomicU32,
}

/// What is to be done for a read.
#[derive(Debug)]
pub(crate) enum Place {
    /// This is the slot, if it is not one of another key with the same hash.
    Taken(Arc<Slot>),
    /// Ask moka.
    Ask,
    /// Ask moka, and give what it has a seat.
    AskAndSeat,
}

impl Hot {
    pub(crate) fn new() -> Self {
        Self((0..ROWS).map(|_| RwLock::default()).collect())
    }

    /// Where to find the slot of a key.
    pub(crate) fn find(&self, entity: EntityId, hash: u64) -> Place {
        // Nobody waits here: moka has the answer as well.
        let Some(row) = self.row(hash).try_read() else { return Place::Ask };
        let Some(seat) = row.seats.iter().flatten().find(|seat| seat.is_of(entity, hash)) else {
            let others = count(&row.others);
            return if others.is_multiple_of(SEATED) { Place::AskAndSeat } else { Place::Ask };
        };
        let reads = count(&seat.reads);
        if reads < FIRST || reads.is_multiple_of(EVERY) {
            return Place::Ask;
        }
        // moka has let it go, and may have another one by now.
        seat.slot.upgrade().map_or(Place::AskAndSeat, Place::Taken)
    }

    /// Gives the slot of a key a seat. To be called under the lock of the key's stripe, with what
    /// moka holds.
    pub(crate) fn seat(&self, entity: EntityId, hash: u64, slot: &Arc<Slot>) {
        let mut row = self.row(hash).write();
        let seat = row.place_for(entity, hash);
        *seat = Some(Seat { entity, hash, slot: Arc::downgrade(slot), reads: AtomicU32::new(0) });
    }

    /// The key has another slot now, or none. To be called under the lock of the key's stripe.
    pub(crate) fn replace(&self, entity: EntityId, hash: u64, slot: Option<&Arc<Slot>>) {
        let mut row = self.row(hash).write();
        for place in &mut row.seats {
            match (place.as_mut().filter(|seat| seat.is_of(entity, hash)), slot) {
                (Some(seat), Some(slot)) => seat.slot = Arc::downgrade(slot),
                (Some(_), None) => *place = None,
                (None, _) => {}
            }
        }
    }

    /// The slots of an entity that are read most, with a number that says how often of late, the first
    /// first. Looks at every seat: for the background.
    pub(crate) fn hottest(&self, entity: EntityId, count: usize) -> Vec<(u32, Arc<Slot>)> {
        let mut hottest = Vec::new();
        for row in &self.0 {
            for seat in row.read().seats.iter().flatten().filter(|seat| seat.entity == entity) {
                let reads = seat.fade();
                let slot = seat.slot.upgrade().filter(|_| reads >= FIRST);
                hottest.extend(slot.map(|slot| (reads, slot)));
            }
        }
        hottest.sort_by_key(|(reads, _)| std::cmp::Reverse(*reads));
        hottest.truncate(count);
        hottest
    }

    /// Empties all seats.
    pub(crate) fn clear(&self) {
        for row in &self.0 {
            row.write().seats = Default::default();
        }
    }

    fn row(&self, hash: u64) -> &RwLock<Row> {
        // Neither the bits of the fence nor those of the flights.
        let bits = usize::try_from(hash >> 44).unwrap_or(0);
        &self.0[bits % ROWS]
    }
}

impl Row {
    /// The seat of a key, or an empty one, or that which is read least.
    fn place_for(&mut self, entity: EntityId, hash: u64) -> &mut Option<Seat> {
        let rank = |seat: &&mut Option<Seat>| match seat.as_ref() {
            Some(seat) if seat.is_of(entity, hash) => 0,
            None => 1,
            Some(seat) if seat.slot.strong_count() == 0 => 1,
            // Who was read often long ago must not keep his seat for ever.
            Some(seat) => 2 + u64::from(seat.fade()),
        };
        self.seats.iter_mut().min_by_key(rank).expect("a row has seats")
    }
}

impl Seat {
    fn is_of(&self, entity: EntityId, hash: u64) -> bool {
        self.entity == entity && self.hash == hash
    }

    /// How often it was read; from now on that counts for half of it.
    fn fade(&self) -> u32 {
        let reads = self.reads.load(Ordering::Relaxed);
        if reads >= 2 * FIRST {
            self.reads.store(reads / 2, Ordering::Relaxed);
        }
        reads
    }
}

/// Counts up. What two threads take from each other is lost: it is a hint, and one addition for all
/// would cost more than the read.
fn count(counter: &AtomicU32) -> u32 {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(1), Ordering::Relaxed);
    before
}

#[cfg(test)]
mod tests;
