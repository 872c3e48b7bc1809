//! Real time for code that waits on processes: the one place that reads the clock or sleeps.

use std::time::Duration;

#[expect(
    clippy::disallowed_types,
    reason = "processes live in real time, so there is no clock for a test to pause here"
)]
type Clock = std::time::Instant;

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Clock);

impl Stopwatch {
    /// Starts measuring now.
    #[must_use]
    pub fn start() -> Self {
        Self(Clock::now())
    }

    /// Time since [`Stopwatch::start`].
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Blocks this thread for `duration`. For threads that watch processes, never on a runtime.
#[expect(
    clippy::disallowed_methods,
    reason = "another process offers no event to wait for, only a state to look at again"
)]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Asks `probe` every `step` until it answers or `timeout` is over.
pub fn wait_until<T>(
    timeout: Duration,
    step: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(answer) = probe() {
            return Some(answer);
        }
        if watch.elapsed() >= timeout {
            return None;
        }
        pause(step);
    }
}
