//! The fence that keeps a slow fill from putting back what an invalidation removed.

use crate::sync::Lock;

/// Number of stripes. Keys that share one only make each other's fills be dropped now and then.
const STRIPES: usize = 4096;

/// A generation per stripe of keys.
///
/// A fill notes the generation before it reads anything. It may be stored only while the generation
/// is still the same; check and store happen under the stripe's lock, and so do raise and remove.
/// A check outside the lock would let an invalidation slip in between.
#[derive(Debug)]
pub(crate) struct Fences<M: Lock<u64> = parking_lot::Mutex<u64>>(Vec<M>);

impl Fences {
    pub(crate) fn new() -> Self {
        Self::with_stripes(STRIPES)
    }
}

impl<M: Lock<u64>> Fences<M> {
    /// With so many stripes, and locks of any kind.
    pub(crate) fn with_stripes(stripes: usize) -> Self {
        Self((0..stripes).map(|_| M::of(0)).collect())
    }

    /// The generation to note before the first read of a fill.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        self.stripe(hash).with(|current| *current)
    }

    /// Runs `store` unless the key was invalidated since `generation` was noted.
    pub(crate) fn store_if_unchanged(
        &self,
        hash: u64,
        generation: u64,
        store: impl FnOnce(),
    ) -> bool {
        self.stripe(hash).with(|current| {
            let unchanged = *current == generation;
            if unchanged {
                store();
            }
            unchanged
        })
    }

    /// Runs `look` while nothing of the key is stored or removed.
    pub(crate) fn hold(&self, hash: u64, look: impl FnOnce()) {
        self.stripe(hash).with(|_current| look());
    }

    /// Waits until all that was begun under any of the locks has ended.
    pub(crate) fn pass_all(&self) {
        for stripe in &self.0 {
            stripe.with(|_current| ());
        }
    }

    /// Voids all fills under way for the key, then runs `remove`.
    pub(crate) fn raise(&self, hash: u64, remove: impl FnOnce()) {
        self.stripe(hash).with(|current| {
            *current += 1;
            remove();
        });
    }

    /// Voids all fills under way.
    pub(crate) fn raise_all(&self) {
        for stripe in &self.0 {
            stripe.with(|current| *current += 1);
        }
    }

    fn stripe(&self, hash: u64) -> &M {
        let stripes = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        &self.0[usize::try_from(hash % stripes).unwrap_or(0)]
    }
}
