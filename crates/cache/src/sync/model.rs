//! Every order in which a fill, a change and a read of one key may meet in L1.
//!
//! The fence and the progress are those of the product, on locks and counters of loom, which runs
//! each model again and again until no order of their steps is left. What stands for moka is one
//! slot behind a lock: an operation on one key of it happens at one moment, too.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use tokio::time::Instant;

use super::{Counter, Lock};
use crate::changes::progress::Progress;
use crate::l1::fence::Fences;

/// The stripe that all of them use.
const HASH: u64 = 0;
const OLD: u64 = 1;
const NEW: u64 = 2;

impl<T> Lock<T> for Mutex<T> {
    fn of(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock().expect("no thread of a model panics with it"))
    }
}

impl Counter for AtomicU64 {
    fn of(value: u64) -> Self {
        Self::new(value)
    }

    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn increment(&self) {
        self.fetch_add(1, Ordering::SeqCst);
    }

    fn raise_to(&self, value: u64) {
        self.fetch_max(value, Ordering::SeqCst);
    }
}

/// A mechanism that a model does without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    Nothing,
    /// The fill compares the generations and stores later, when it has let go of the stripe.
    CheckUnderTheLock,
    /// The generation is noted when the row was read.
    GenerationFirst,
    /// The reader looks into L1 and takes his view then.
    ViewFirst,
    /// The tail says how far it is and forgets the key then.
    ForgottenFirst,
}

/// One key, and what is known of it.
struct World {
    fences: Fences<Mutex<u64>>,
    progress: Progress<AtomicU64>,
    /// Version of the row in the store.
    row: AtomicU64,
    /// Version of the entry in L1.
    slot: Mutex<Option<u64>>,
    /// When the tail asked: after the row got its new version.
    asked_at: Instant,
}

impl World {
    fn new() -> Self {
        let origin = Instant::now();
        Self {
            fences: Fences::with_stripes(1),
            progress: Progress::since(origin, Duration::from_secs(1)),
            row: AtomicU64::of(OLD),
            slot: Mutex::of(Some(OLD)),
            asked_at: origin + Duration::from_secs(1),
        }
    }

    /// A miss that reads the row and stores it.
    fn fill(&self, off: Off) {
        let noted = self.fences.generation(HASH);
        let row = self.row.get();
        let generation =
            if off == Off::GenerationFirst { self.fences.generation(HASH) } else { noted };
        let store = || self.slot.with(|slot| *slot = (*slot).max(Some(row)));
        if off == Off::CheckUnderTheLock {
            if self.fences.generation(HASH) == generation {
                store();
            }
        } else {
            self.fences.store_if_unchanged(HASH, generation, store);
        }
    }

    /// Somebody commits a change, and the tail finds it.
    fn change(&self, off: Off) {
        self.row.raise_to(NEW);
        let forget = || {
            let forget = |slot: &mut Option<u64>| *slot = slot.filter(|version| *version >= NEW);
            self.fences.raise(HASH, || self.slot.with(forget));
        };
        if off == Off::ForgottenFirst {
            self.progress.caught_up(self.asked_at);
            forget();
        } else {
            forget();
            self.progress.caught_up(self.asked_at);
        }
    }

    /// A read, which may be answered by L1 if the tail is far enough.
    fn read(&self, off: Off) {
        let (view, found) = if off == Off::ViewFirst {
            let found = self.slot.with(|slot| *slot);
            (self.progress.view(), found)
        } else {
            let view = self.progress.view();
            (view, self.slot.with(|slot| *slot))
        };
        if view.caught_up_at >= self.asked_at {
            assert_ne!(found, Some(OLD), "an old entry was served under a new view");
        }
    }
}

/// Whether some order of a fill, a change and a read serves the old entry under the new view.
fn is_wrong(off: Off) -> bool {
    let model = || {
        loom::model(move || {
            let world = Arc::new(World::new());
            let (filler, reader) = (Arc::clone(&world), Arc::clone(&world));
            let filler = thread::spawn(move || filler.fill(off));
            let reader = thread::spawn(move || reader.read(off));
            world.change(off);
            filler.join().expect("filled");
            reader.join().expect("read");
            // Whoever comes later finds no old entry either.
            world.read(Off::Nothing);
        });
    };
    catch_unwind(AssertUnwindSafe(model)).is_err()
}

/// Fails when a fill that was overtaken by a change is stored all the same, or when a view vouches
/// for an entry that was replaced meanwhile.
#[test]
fn no_order_serves_an_old_entry_under_a_new_view() {
    assert!(!is_wrong(Off::Nothing), "see the panic above");
}

/// Fails when the model misses what it is there for.
#[test]
fn the_model_notices_every_mechanism_that_is_off() {
    let off = [Off::CheckUnderTheLock, Off::GenerationFirst, Off::ViewFirst, Off::ForgottenFirst];
    for off in off {
        assert!(is_wrong(off), "{off:?}");
    }
}

/// Fails when a view has the era from before a gap and the instant from after it: it would trust
/// what was cached before the gap.
#[test]
fn a_view_has_no_older_era_than_instant() {
    loom::model(|| {
        let world = Arc::new(World::new());
        let tail = Arc::clone(&world);
        let tail = thread::spawn(move || tail.progress.restart(tail.asked_at));
        let view = world.progress.view();
        if view.caught_up_at >= world.asked_at {
            assert_eq!(view.era, 1, "the era is older than the instant");
        }
        tail.join().expect("restarted");
    });
}
