//! Who holds a permit, since when, and which line of code asked for it.

use std::panic::Location;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// One held permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The line of code that asked for the permit.
    pub location: &'static Location<'static>,
    /// How long it has been held.
    pub held: Duration,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { location, held } = self;
        write!(f, "{}:{} for {} ms", location.file(), location.line(), held.as_millis())
    }
}

/// Records of all held permits: a vector with a free list, so a record costs no allocation.
#[derive(Debug)]
pub(super) struct Holders(Mutex<Slots>);

impl Holders {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Slots { records: Vec::new(), free: Vec::new() }))
    }

    /// Records a holder and names the place to clear with [`Holders::leave`].
    pub(super) fn enter(&self, location: &'static Location<'static>) -> usize {
        let record = Some((location, Instant::now()));
        let mut slots = self.0.lock();
        if let Some(index) = slots.free.pop() {
            slots.records[index] = record;
            index
        } else {
            slots.records.push(record);
            slots.records.len() - 1
        }
    }

    pub(super) fn leave(&self, index: usize) {
        let mut slots = self.0.lock();
        slots.records[index] = None;
        slots.free.push(index);
    }

    /// The longest holders first.
    pub(super) fn oldest(&self, count: usize) -> Vec<Holder> {
        let mut records: Vec<_> = self.0.lock().records.iter().flatten().copied().collect();
        records.sort_by_key(|(_, since)| *since);
        let now = Instant::now();
        let holder =
            |(location, since)| Holder { location, held: now.saturating_duration_since(since) };
        records.into_iter().take(count).map(holder).collect()
    }
}

#[derive(Debug)]
struct Slots {
    records: Vec<Option<(&'static Location<'static>, Instant)>>,
    free: Vec<usize>,
}
