//! Whose turn it is to load what L2 does not hold.
//!
//! One process loads a key, and the others wait for what it puts into L2. It may be dead, or cut off
//! from the store, so they wait for a short time only: then it is the turn of one of them, and after
//! twice that time of the next one. Each may fill, since the lease says no more than that the key was
//! not invalidated since it was given, and that is as true for whoever found it there before his own
//! load.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument as _;

use crate::entity_cache::EntityInner;
use crate::l2::remote::{Found, Lease};
use crate::l2::wire::Epoch;
use crate::reads::fetch::{Departure, Miss, land_hits, load, take_hits};
use crate::{Entity, Loader};

/// Shortest and longest pause before L2 is asked again for what another process is about to fill.
const POLL_MIN: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(25);

/// What a batch asks for leases with.
#[derive(Debug)]
pub(super) struct Turn {
    epoch: Epoch,
    token: String,
    /// How long others may take that have a lease.
    patience: Duration,
}

/// A key that somebody else is about to fill.
pub(super) struct Held<E: Entity, L: Loader<E>> {
    miss: Miss<E, L>,
    /// When it is the turn of another one.
    ripe_at: Instant,
}

impl Turn {
    pub(super) fn new<E: Entity, L: Loader<E>>(inner: &EntityInner<E, L>, epoch: Epoch) -> Self {
        let token = format!("{:016x}", rand::random::<u64>());
        Self { epoch, token, patience: inner.patience() }
    }

    /// Asks for leave to fill: the misses that are to be loaded here, most with leave, and those that
    /// somebody else is about to fill, or has filled.
    pub(super) async fn ask<E: Entity, L: Loader<E>>(
        &self,
        inner: &EntityInner<E, L>,
        misses: Vec<Miss<E, L>>,
    ) -> (Vec<Miss<E, L>>, Vec<Held<E, L>>) {
        // Who cannot load now should not keep others from it.
        if misses.is_empty() || inner.loads.oldest().is_some_and(|age| age > 2 * self.patience) {
            return (misses, Vec::new());
        }
        let entries: Vec<_> =
            misses.iter().map(|miss| (miss.entry_key.clone(), miss.there)).collect();
        let (remote, token) = (&inner.cache.remote, (self.epoch, self.token.as_str()));
        let Some(leases) = remote.lease(inner.space(), token, self.patience, &entries).await else {
            return (misses, Vec::new());
        };
        let (mut ours, mut held) = (Vec::new(), Vec::new());
        for (mut miss, answer) in misses.into_iter().zip(leases) {
            match answer {
                Lease::Granted { version, lease } => {
                    miss.version = miss.version.max(version);
                    miss.lease = Some(lease);
                    ours.push(miss);
                }
                Lease::Filled => held.push(Held { miss, ripe_at: Instant::now() }),
                Lease::Held { ripe_in } => {
                    held.push(Held { miss, ripe_at: Instant::now() + ripe_in });
                }
            }
        }
        (ours, held)
    }

    /// Asks L2 again and again for what others are about to fill, and loads what becomes our turn. A
    /// key that nobody has filled after the life of a lease is loaded without leave.
    pub(super) async fn wait<E: Entity, L: Loader<E>>(
        &self,
        inner: &Arc<EntityInner<E, L>>,
        mut held: Vec<Held<E, L>>,
        departure: Departure,
    ) {
        let began_at = Instant::now();
        let until = began_at + inner.cache.remote.lease_ttl();
        while let Some(ripe_at) = held.iter().map(|held| held.ripe_at).min()
            && Instant::now() < until
        {
            let pause = pause_after(began_at.elapsed());
            tokio::time::sleep_until((Instant::now() + pause).min(ripe_at)).await;
            let keys: Vec<_> = held.iter().map(|held| held.miss.entry_key.as_str()).collect();
            let found = inner.cache.remote.read(inner.space(), &keys, true).await;
            let Some(Found { epoch, seen, leased }) = found else { break };
            if epoch != self.epoch {
                break;
            }
            let (mut waiting, mut free) = (Vec::new(), Vec::new());
            for ((Held { miss, ripe_at }, seen), leased) in held.into_iter().zip(seen).zip(leased) {
                let mut one = vec![miss];
                let hit = take_hits(inner, &mut one, vec![seen]);
                land_hits(inner, hit, departure);
                // Filled and unusable, void, given back, or too slow: it may be our turn.
                let is_free = !leased || ripe_at <= Instant::now();
                for miss in one {
                    if is_free { free.push(miss) } else { waiting.push(Held { miss, ripe_at }) }
                }
            }
            let (ours, others) = self.ask(inner, free).await;
            if !ours.is_empty() {
                let (inner, epoch) = (Arc::clone(inner), self.epoch);
                let load = async move { load(&inner, ours, Some(epoch), departure).await };
                tokio::spawn(load.in_current_span());
            }
            waiting.extend(others);
            held = waiting;
        }
        let left = held.into_iter().map(|held| held.miss).collect();
        load(inner, left, None, departure).await;
    }
}

/// How long to leave L2 alone after so long a wait: whoever waits for a fill sees it no more than a
/// quarter later than it is there, at the cost of about a dozen questions for the slowest.
fn pause_after(waited: Duration) -> Duration {
    (waited / 4).clamp(POLL_MIN, POLL_MAX)
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// How long others may take to load before it is somebody else's turn: twice what a load takes
    /// here of late, so that a store that is slow for everybody is not asked by everybody.
    fn patience(&self) -> Duration {
        let remote = &self.cache.remote;
        (2 * self.loads.usual()).max(remote.lease_wait()).min(remote.lease_ttl())
    }
}

#[cfg(test)]
mod tests {
    //! How often L2 is asked for what somebody else fills.

    use super::*;

    /// Fails if a waiter asks much later than the fill can be there, or asks all the time.
    #[test]
    fn a_fill_is_seen_soon_and_few_questions_are_asked() {
        // Milliseconds until the fill is there, until it is seen, and the questions until then.
        let cases = [(1, 1, 1), (2, 2, 2), (4, 4, 4), (5, 5, 5), (20, 24, 12), (50, 59, 16)];
        for (there, seen_by, asked_at_most) in cases {
            let (there, mut waited) = (Duration::from_millis(there), Duration::ZERO);
            let mut asked = 0;
            while waited < there {
                waited += pause_after(waited);
                asked += 1;
            }
            let seen_by = Duration::from_millis(seen_by + 1);
            assert!(waited < seen_by && asked <= asked_at_most, "{there:?}: {waited:?}, {asked}");
        }
        assert_eq!(pause_after(Duration::from_secs(1)), POLL_MAX);
    }
}
