//! The few operations on shared memory by which L1 stays right, so that a model checker can put its
//! own in their place and try every order in which they may happen.

use std::sync::atomic::{AtomicU64, Ordering};

/// A value behind a lock.
pub(crate) trait Lock<T> {
    fn of(value: T) -> Self;
    /// Runs `work` while nobody else has the value.
    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R;
}

/// A number that several threads read and raise, all in one order.
pub(crate) trait Counter {
    fn of(value: u64) -> Self;
    fn get(&self) -> u64;
    fn increment(&self);
    /// Has no effect if it is higher.
    fn raise_to(&self, value: u64);
}

impl<T> Lock<T> for parking_lot::Mutex<T> {
    fn of(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.lock())
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

#[cfg(test)]
mod model;
