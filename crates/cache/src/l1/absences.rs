//! Where to look for keys that have no row: most reads need not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Number of stripes. Keys that share one with a key without a row are looked for once more.
const STRIPES: usize = 4096;

/// How many entries of keys without a row each stripe has.
#[derive(Debug, Clone)]
pub(crate) struct Absences(Arc<[AtomicU32]>);

/// One of those entries. It counts until its memory is free.
#[derive(Debug)]
pub(crate) struct Absence {
    absences: Absences,
    stripe: usize,
}

impl Absences {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| AtomicU32::new(0)).collect())
    }

    /// Counts an entry; to be called before it can be found.
    pub(crate) fn hold(&self, hash: u64) -> Absence {
        let stripe = stripe(hash);
        self.0[stripe].fetch_add(1, Ordering::SeqCst);
        Absence { absences: self.clone(), stripe }
    }

    /// Whether there may be an entry of this key.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        self.0[stripe(hash)].load(Ordering::SeqCst) > 0
    }
}

fn stripe(hash: u64) -> usize {
    // Not the bits that choose the stripe of the fence: keys of one are spread here.
    let bits = u32::try_from(hash >> 32).unwrap_or(0);
    usize::try_from(bits).unwrap_or(0) % STRIPES
}

impl Drop for Absence {
    fn drop(&mut self) {
        self.absences.0[self.stripe].fetch_sub(1, Ordering::SeqCst);
    }
}
