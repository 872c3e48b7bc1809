//! The connections that are open now, wherever they are: idle, leased, being cleaned.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::lifecycle::connector::Canceller;

/// All open connections of one connection pool. Clones share them.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    sockets: Mutex<Sockets>,
    /// As `count`, for those who look at every call.
    count_now: AtomicUsize,
    count: watch::Sender<usize>,
}

#[derive(Default)]
struct Sockets {
    last_id: u64,
    /// `None` until the connection is known by its handle.
    open: HashMap<u64, Option<Handle>>,
}

/// What ends an open connection from outside.
#[derive(Clone)]
pub(crate) struct Handle {
    /// Names its backend.
    pub(crate) canceller: Canceller,
    /// The task that holds its socket.
    pub(crate) driver: AbortHandle,
}

impl Live {
    /// None is open.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            sockets: Mutex::default(),
            count_now: AtomicUsize::new(0),
            count: watch::Sender::new(0),
        }))
    }

    /// An entry to be held by the task that holds the socket.
    pub(crate) fn enter(&self) -> Entry {
        let mut sockets = self.0.sockets.lock();
        sockets.last_id += 1;
        let id = sockets.last_id;
        sockets.open.insert(id, None);
        Entry { live: self.clone(), id }
    }

    /// Counts the connection of the entry `id` from now on, unless its task has ended already.
    pub(crate) fn add(&self, id: u64, handle: Handle) {
        if let Some(slot) = self.0.sockets.lock().open.get_mut(&id) {
            *slot = Some(handle);
            self.0.changed(|count| *count += 1);
        }
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.0.count_now.load(Ordering::Acquire)
    }

    /// Hears of every change of the count.
    pub(crate) fn listen(&self) -> watch::Receiver<usize> {
        self.0.count.subscribe()
    }

    /// Waits until none is open.
    pub(crate) async fn all_closed(&self) {
        let mut count = self.listen();
        // It cannot fail: the sender is in `self`.
        let _none = count.wait_for(|count| *count == 0).await;
    }

    /// All that are open.
    pub(crate) fn handles(&self) -> Vec<Handle> {
        self.0.sockets.lock().open.values().flatten().cloned().collect()
    }
}

impl Inner {
    /// Before anybody hears of it, who looks must see it.
    fn changed(&self, change: impl FnOnce(&mut usize)) {
        self.count.send_modify(|count| {
            change(count);
            self.count_now.store(*count, Ordering::Release);
        });
    }
}

/// Takes a connection off the count when its socket goes.
pub(crate) struct Entry {
    live: Live,
    id: u64,
}

impl Entry {
    /// Its name for [`Live::add`].
    pub(crate) fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sockets = self.live.0.sockets.lock();
        if sockets.open.remove(&self.id).flatten().is_some() {
            self.live.0.changed(|count| *count -= 1);
        }
    }
}
