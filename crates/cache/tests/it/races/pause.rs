//! A place at which somebody is stopped once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// Whoever comes by waits there until he may go on. Clones are the same place.
#[derive(Debug, Clone)]
pub(crate) struct Pause(Arc<Place>);

#[derive(Debug)]
struct Place {
    reached: Semaphore,
    may_go_on: Semaphore,
}

impl Pause {
    pub(crate) fn new() -> Self {
        let place = Place { reached: Semaphore::new(0), may_go_on: Semaphore::new(0) };
        Self(Arc::new(place))
    }

    /// Says that the place was reached, and waits.
    pub(crate) async fn stop(&self) {
        self.0.reached.add_permits(1);
        self.0.may_go_on.acquire().await.expect("never closed").forget();
    }

    /// Waits until somebody is here.
    pub(crate) async fn reached(&self, what: &str) {
        let reached = tokio::time::timeout(Duration::from_secs(10), self.0.reached.acquire());
        let Ok(permit) = reached.await else { panic!("nobody came to {what}") };
        permit.expect("never closed").forget();
    }

    pub(crate) fn go_on(&self) {
        self.0.may_go_on.add_permits(1);
    }
}
