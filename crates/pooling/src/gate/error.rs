//! Why a gate lets somebody not in.

use std::time::Duration;

/// Why there is no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The queue is full, or the caller's turn would come after its deadline.
    #[error("{waiting} callers wait already{}", Predicted(*predicted))]
    Shed {
        /// Callers that waited at that moment.
        waiting: usize,
        /// How long this caller would have had to wait, if that is why it was turned away;
        /// `None` if the queue is full.
        predicted: Option<Duration>,
    },
    /// No permit came in time.
    #[error("no permit came free in {} ms", waited.as_millis())]
    Timeout {
        /// How long the caller waited.
        waited: Duration,
    },
    /// The gate is closed for good.
    #[error("the gate is closed")]
    Closed,
}

struct Predicted(Option<Duration>);

impl std::fmt::Display for Predicted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(wait) => write!(f, ", the next would wait {} ms", wait.as_millis()),
            None => Ok(()),
        }
    }
}
