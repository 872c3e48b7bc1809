//! The fence that keeps a slow fill from putting back what an invalidation removed.

use parking_lot::Mutex;

/// Number of stripes. Keys that share one only make each other's fills be dropped now and then.
const STRIPES: usize = 4096;

/// A generation per stripe of keys.
///
/// A fill notes the generation before it reads anything. It may be stored only while the generation
/// is still the same; check and store happen under the stripe's lock, and so do raise and remove.
/// A check outside the lock would let an invalidation slip in between.
#[derive(Debug)]
pub(crate) struct Fences(Vec<Mutex<u64>>);

impl Fences {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(0)).collect())
    }

    /// The generation to note before the first read of a fill.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        *self.stripe(hash).lock()
    }

    /// Runs `store` unless the key was invalidated since `generation` was noted.
    pub(crate) fn store_if_unchanged(
        &self,
        hash: u64,
        generation: u64,
        store: impl FnOnce(),
    ) -> bool {
        let current = self.stripe(hash).lock();
        let unchanged = *current == generation;
        if unchanged {
            store();
        }
        unchanged
    }

    /// Voids all fills under way for the key, then runs `remove`.
    pub(crate) fn raise(&self, hash: u64, remove: impl FnOnce()) {
        let mut current = self.stripe(hash).lock();
        *current += 1;
        remove();
    }

    /// Voids all fills under way.
    pub(crate) fn raise_all(&self) {
        for stripe in &self.0 {
            *stripe.lock() += 1;
        }
    }

    fn stripe(&self, hash: u64) -> &Mutex<u64> {
        let stripes = u64::try_from(self.0.len()).unwrap_or(u64::MAX);
        &self.0[usize::try_from(hash % stripes).unwrap_or(0)]
    }
}
