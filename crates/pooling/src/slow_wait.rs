//! A span for a wait that is worth one.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Level};

/// A shorter wait is not worth a span.
const SLOW: Duration = Duration::from_millis(1);

/// Runs `wait` for a connection of `pool`, in a span `pool.acquire` from the moment it has
/// lasted for a millisecond.
///
/// The field `waited_us` is the whole wait, its first millisecond included. A wait that is over
/// at once, or that nobody would record, costs a look at it and nothing else.
pub async fn trace_slow_wait<F: Future>(pool: &str, wait: F) -> F::Output {
    let mut wait = pin!(wait);
    let first = std::future::poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))).await;
    if let Poll::Ready(output) = first {
        return output;
    }
    if !tracing::span_enabled!(Level::INFO) {
        return wait.await;
    }
    let started = Instant::now();
    tokio::select! {
        biased;
        output = &mut wait => return output,
        () = tokio::time::sleep_until(started + SLOW) => {}
    }
    let span = tracing::info_span!("pool.acquire", pool, waited_us = Empty);
    let output = wait.instrument(span.clone()).await;
    let waited = started.elapsed().as_micros();
    span.record("waited_us", u64::try_from(waited).unwrap_or(u64::MAX));
    output
}

#[cfg(test)]
mod tests {
    //! Which waits get a span.

    use std::time::Duration;

    use tokio::time::sleep;

    use super::trace_slow_wait;
    use crate::recorder::Recorder;

    /// Fails when every wait gets a span, or none.
    #[tokio::test(start_paused = true)]
    async fn only_a_slow_wait_gets_a_span() {
        let (recorder, _guard) = Recorder::start();
        trace_slow_wait("postgres", async {}).await;
        trace_slow_wait("postgres", tokio::task::yield_now()).await;
        assert!(recorder.lines().is_empty(), "{:?}", recorder.lines());
        trace_slow_wait("postgres", sleep(Duration::from_millis(20))).await;
        assert_eq!(
            recorder.lines(),
            ["pool.acquire pool=\"postgres\"", "record waited_us=20000"].map(str::to_owned)
        );
    }
}
