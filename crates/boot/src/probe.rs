//! Probing a store until the process stops, so that readiness says what is true now.

use std::error::Error;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::FutureExt;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::readiness::Component;
use crate::shutdown::Shutdown;

/// Pause between two probes: an operator sees a change within two seconds.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long one probe may take before the store counts as away.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Probes and reports until the process stops.
pub(crate) async fn watch<P, Fut, E>(shutdown: Shutdown, component: Component, probe: P)
where
    P: Fn() -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Error + 'static,
{
    let mut ticks = interval(PROBE_INTERVAL);
    // After a slow probe the next one waits its turn; a burst would find nothing new.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A trace a second from every process would bury the traces somebody looks for.
    let untraced = Context::new().with_telemetry_suppressed();
    let probing = async {
        loop {
            ticks.tick().await;
            match timeout(PROBE_TIMEOUT, probe().with_context(untraced.clone())).await {
                Ok(Ok(())) => component.set_ready(),
                Ok(Err(error)) => component.set_degraded(chain(&error)),
                Err(_) => component.set_degraded(format!("no answer within {PROBE_TIMEOUT:?}")),
            }
        }
    };
    tokio::select! {
        () = shutdown.fired() => {}
        () = probing => {}
    }
}

/// An error with its causes.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
