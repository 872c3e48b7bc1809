//! Callers that go away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_e2e::{System, TokenClient};
use forebay_proto::token::v1::Token;

use super::traffic::{CALLERS, find, rename};
use super::{Chaos, tell};

/// Calls that are dropped by their caller.
const CANCELLED: u32 = 10_000;
/// How many of them are under way at once.
const AT_ONCE: u32 = 50;
/// How long the most patient of them wait, in microseconds: some are answered.
const PATIENCE_MAX_US: u32 = 30_000;

/// Fails when cancelled calls end the connection of the others, when a permit is not given back,
/// and when the gate turns callers away that could be served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_cancelled_calls_cost_nobody_else_an_error() -> anyhow::Result<()> {
    let it = Chaos::start(&[]).await?;
    let traffic = it.traffic().await?;
    let storm = Storm::default();
    storm.run(&it.system, &it.sample).await?;
    let tally = it.settle("calls cancelled", traffic).await?;
    let Storm { dropped, answered, .. } = storm;
    let (dropped, answered) = (dropped.into_inner(), answered.into_inner());
    tell(&format!("{dropped} calls dropped, {answered} others answered first"));
    assert!(tally.is_clean(), "nobody else fails: {tally}");
    Ok(())
}

/// Calls that are dropped after anything from nothing to some milliseconds.
#[derive(Default)]
struct Storm {
    number: AtomicU32,
    dropped: AtomicU32,
    answered: AtomicU32,
}

impl Storm {
    /// Goes on until as many were dropped as should be.
    async fn run(&self, system: &System, sample: &[Token]) -> anyhow::Result<()> {
        // All of them on one connection, which is harder on the server than a connection each.
        let tokens = system.token_client().await?;
        let callers = (0..AT_ONCE).map(|_| self.calls(tokens.clone(), sample));
        futures_util::future::try_join_all(callers).await?;
        Ok(())
    }

    async fn calls(&self, mut tokens: TokenClient, sample: &[Token]) -> anyhow::Result<()> {
        while self.dropped.load(Ordering::Relaxed) < CANCELLED {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            // The last ones belong to the callers that go on.
            let token = &sample[usize::try_from(number)? % (sample.len() - CALLERS)];
            let patience = number.wrapping_mul(7919) % PATIENCE_MAX_US;
            let call = async {
                // A read that the cache shares goes on without its caller; a write does not.
                if number.is_multiple_of(2) {
                    rename(&mut tokens, &token.id, format!("storm {number}")).await
                } else {
                    find(&mut tokens, token).await
                }
            };
            match tokio::time::timeout(Duration::from_micros(patience.into()), call).await {
                Ok(outcome) => {
                    outcome?;
                    self.answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(_elapsed) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }
}
