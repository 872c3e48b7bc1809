//! Which keys were read from L2 not long ago.
//!
//! When L1 is full, a value that comes in pushes another one out. Of keys that are read once in a long
//! while most are pushed out again before they are read a second time, and putting them in costs more
//! than all else that a hit in L2 costs. So while L1 is full a key comes in when it is seen again. It
//! is a hint: a key that is forgotten here is read from L2 once more.

use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of L1 for each place: entries take a kilobyte and more, so about as many keys are remembered
/// as L1 holds.
const BYTES_EACH: u64 = 1_024;
/// Places at least and at most, of four bytes.
const PLACES: std::ops::RangeInclusive<u64> = 1_024..=1 << 20;

/// The keys that were seen last, each in one place by its hash.
#[derive(Debug)]
pub(crate) struct Sightings(Box<[AtomicU32]>);

impl Sightings {
    /// For an L1 of so many bytes.
    pub(crate) fn new(bytes_max: u64) -> Self {
        let places = (bytes_max / BYTES_EACH).clamp(*PLACES.start(), *PLACES.end());
        Self((0..places).map(|_| AtomicU32::new(0)).collect())
    }

    /// Whether the key was seen before, and no other one in its place since.
    pub(crate) fn has_seen(&self, hash: u64) -> bool {
        let places = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        let place = &self.0[usize::try_from(hash % places).unwrap_or(0)];
        // Zero is the mark of nobody.
        let mark = u32::try_from(hash >> 32).unwrap_or(0) | 1;
        place.swap(mark, Ordering::Relaxed) == mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_seen_again_until_another_one_takes_its_place() {
        let sightings = Sightings::new(0);
        let places = *PLACES.start();
        let (one, other) = (7_u64 << 40 | 5, 9_u64 << 40 | 5);
        assert_eq!(one % places, other % places);
        assert!(!sightings.has_seen(one) && sightings.has_seen(one));
        assert!(!sightings.has_seen(other) && !sightings.has_seen(one));
        assert!(!sightings.has_seen(0), "an empty place is no sighting");
    }

    #[test]
    fn places_are_bounded() {
        let places = |bytes| Sightings::new(bytes).0.len();
        assert_eq!((places(0), places(u64::MAX)), (1 << 10, 1 << 20));
        assert_eq!(places(64 << 20), 1 << 16);
    }
}
