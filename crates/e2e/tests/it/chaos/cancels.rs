//! Callers that go away.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forebay_e2e::{System, TokenClient};
use forebay_proto::token::v1::Token;
use tokio::time::Instant;

use super::traffic::{CALLERS, find, list_symbol, rename};
use super::{Chaos, tell};

/// Calls that are dropped by their caller.
const CANCELLED: u32 = 10_000;
/// How many of them are under way at once.
const AT_ONCE: u32 = 50;
/// How long the most patient of them wait, in microseconds: some are answered.
const PATIENCE_MAX_US: u32 = 30_000;

/// Fails when cancelled calls end the connection of the others, when a permit is not given back,
/// and when the gate turns callers away that could be served. That a list of a caller who has gone
/// leaves the queue of loads is held by `a_page_that_nobody_waits_for_leaves_the_queue` of the crate
/// `cache`: here it shows only on a machine that is slow enough.
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
        let mut tokens = system.token_client().await?;
        let callers = (0..AT_ONCE).map(|_| self.calls(tokens.clone(), sample));
        futures_util::future::try_join_all(callers).await?;
        let sent = Instant::now();
        // The storm is over for the server when it has read of the last call, and it reads in order.
        // A busy one is behind, by seconds.
        find(&mut tokens, &sample[0]).await?;
        tell(&format!(
            "the server had read of all of them {} ms later",
            sent.elapsed().as_millis()
        ));
        Ok(())
    }

    async fn calls(&self, mut tokens: TokenClient, sample: &[Token]) -> anyhow::Result<()> {
        while self.dropped.load(Ordering::Relaxed) < CANCELLED {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            // The last ones belong to the callers that go on.
            let token = &sample[usize::try_from(number)? % (sample.len() - CALLERS)];
            let patience = number.wrapping_mul(7919) % PATIENCE_MAX_US;
            let call = async {
                // A read that has begun goes on without its caller, for the cache; a write does not.
                // Writes make all pages old, so most lists wait for a load of their own.
                match number % 3 {
                    0 => rename(&mut tokens, &token.id, format!("storm {number}")).await,
                    1 => find(&mut tokens, token).await,
                    _ => list_symbol(&mut tokens, &token.symbol).await,
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
