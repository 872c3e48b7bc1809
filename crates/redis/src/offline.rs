//! The bound on what waits while no lane is connected.

use std::sync::Arc;

use parking_lot::Mutex;

/// Number and bytes of the requests that wait for a connection, of all lanes together.
#[derive(Debug)]
pub(crate) struct Offline {
    requests_max: usize,
    bytes_max: usize,
    held: Mutex<Held>,
}

/// What waits for a connection now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

impl Offline {
    pub(crate) fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { requests_max, bytes_max, held: Mutex::default() }
    }

    /// A place for one more request, or the number of those that have one.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<OfflinePlace, usize> {
        let mut held = self.held.lock();
        let fits =
            held.requests < self.requests_max && bytes <= self.bytes_max.saturating_sub(held.bytes);
        if !fits {
            return Err(held.requests);
        }
        held.requests += 1;
        held.bytes += bytes;
        Ok(OfflinePlace { offline: Arc::clone(self), bytes })
    }

    pub(crate) fn held(&self) -> Held {
        *self.held.lock()
    }
}

/// A place in the offline queue, given back on drop.
#[derive(Debug)]
pub(crate) struct OfflinePlace {
    offline: Arc<Offline>,
    bytes: usize,
}

impl Drop for OfflinePlace {
    fn drop(&mut self) {
        let mut held = self.offline.held.lock();
        held.requests -= 1;
        held.bytes -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    //! Both bounds hold, and what leaves makes room.

    use std::sync::Arc;

    use super::{Held, Offline};

    #[test]
    fn number_and_bytes_are_bounded() {
        let offline = Arc::new(Offline::new(2, 10));
        let first = offline.take(6).expect("fits");
        assert_eq!(offline.take(5).expect_err("too many bytes"), 1);
        let _second = offline.take(4).expect("fits exactly");
        assert_eq!(offline.take(0).expect_err("too many"), 2);
        assert_eq!(offline.held(), Held { requests: 2, bytes: 10 });
        drop(first);
        assert_eq!(offline.held(), Held { requests: 1, bytes: 4 });
        assert_eq!(offline.take(7).expect_err("too many bytes"), 1);
        assert!(offline.take(6).is_ok());
    }
}
