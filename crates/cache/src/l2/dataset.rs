//! What this process knows of the data that Redis holds, and so whether L2 may be trusted.
//!
//! A *data set* is what one run of a Redis server holds. After a restart, a failover or a flush the
//! server answers from another one, which is some prefix of the commands that the old one executed.
//! So every step by which this process makes L2 right ends with a higher *mark* in Redis, and every
//! read asks for the mark beside the entries: if it is as high as it must be, the data set that
//! answered has all those steps, whichever server it is on. Nothing has to be noticed in time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::L2State;
use crate::changes::announced::Chain;
use crate::changes::outbox::Base;
use crate::l1::local::EntityId;
use crate::l2::wire::Epoch;

/// Own chains remembered: announcements of older ones were read long ago.
const OWN_CHAINS_MAX: usize = 16;

/// Leave to use L2: what a data set must have.
#[derive(Debug)]
pub(crate) struct Trust {
    pub(crate) chain: Chain,
    /// The epoch of each entity whose entries may be used.
    pub(crate) epochs: HashMap<EntityId, Epoch>,
    /// The mark that covers everything that this process does not wait for any more.
    pub(crate) mark: AtomicU64,
}

impl Trust {
    /// To be asked after what waits was looked up: a change that waits no more is covered.
    pub(crate) fn mark(&self) -> u64 {
        self.mark.load(Ordering::SeqCst)
    }
}

/// How far the outbox was read.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    pub(crate) base: Base,
    /// Changes with lower tickets were found in this round or before.
    pub(crate) ticket: u64,
}

/// Which entities need a new epoch.
#[derive(Debug, Default)]
pub(crate) struct Renewal {
    pub(crate) all: bool,
    pub(crate) entities: HashSet<EntityId>,
    /// Other processes are to forget what they hold in memory, too.
    pub(crate) forgets: bool,
}

impl Renewal {
    pub(crate) fn covers(&self, entity: EntityId) -> bool {
        self.all || self.entities.contains(&entity)
    }
}

/// The state of L2 as this process knows it.
#[derive(Debug, Default)]
pub(crate) struct Dataset {
    trust: RwLock<Option<Arc<Trust>>>,
    renewal: Mutex<Renewal>,
    renewals_asked: AtomicU64,
    renewals_made: AtomicU64,
    renewed: Notify,
    round: Mutex<Option<Round>>,
    /// The chains that this process began last.
    own_chains: Mutex<VecDeque<Chain>>,
    is_reachable: AtomicBool,
    granted: Notify,
    changed: Notify,
}

impl Dataset {
    /// Leave to use L2, if there is one.
    pub(crate) fn trust(&self) -> Option<Arc<Trust>> {
        self.trust.read().clone()
    }

    pub(crate) fn grant(&self, trust: Arc<Trust>) {
        let mut current = self.trust.write();
        // Checked under the lock that a requirement takes first: it is not granted over.
        if self.renewals_asked.load(Ordering::SeqCst) == self.renewals_made.load(Ordering::SeqCst) {
            *current = Some(trust);
            self.granted.notify_waiters();
        }
    }

    /// Waits until there is leave to use L2.
    pub(crate) async fn trusted(&self) {
        loop {
            let granted = self.granted.notified();
            tokio::pin!(granted);
            // Registered before the check, or leave given between the two would be missed.
            granted.as_mut().enable();
            if self.trust().is_some() {
                return;
            }
            granted.await;
        }
    }

    /// The data set is not the one that `trust` was given for.
    pub(crate) fn lost(&self, trust: &Arc<Trust>) {
        let mut current = self.trust.write();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, trust)) {
            *current = None;
            drop(current);
            self.changed.notify_one();
        }
    }

    /// What is known does not cover everything any more, for example a new entity.
    pub(crate) fn check(&self) {
        *self.trust.write() = None;
        self.changed.notify_one();
    }

    /// Entries of L2 may be wrong: none is used before a new epoch is in force.
    pub(crate) fn require_epoch(&self, entity: Option<EntityId>, forgets: bool) {
        let mut trust = self.trust.write();
        let mut renewal = self.renewal.lock();
        match entity {
            None => renewal.all = true,
            Some(entity) => drop(renewal.entities.insert(entity)),
        }
        renewal.forgets |= forgets;
        self.renewals_asked.fetch_add(1, Ordering::SeqCst);
        *trust = None;
        drop((renewal, trust));
        self.changed.notify_one();
    }

    /// What needs a new epoch now, with the number to tell when it has one. What is asked for later
    /// counts anew.
    pub(crate) fn take_renewal(&self) -> (Renewal, u64) {
        let mut renewal = self.renewal.lock();
        (std::mem::take(&mut *renewal), self.renewals_asked.load(Ordering::SeqCst))
    }

    /// It could not be done.
    pub(crate) fn put_back(&self, undone: Renewal) {
        let mut renewal = self.renewal.lock();
        renewal.all |= undone.all;
        renewal.forgets |= undone.forgets;
        renewal.entities.extend(undone.entities);
    }

    pub(crate) fn renewed(&self, number: u64) {
        self.renewals_made.store(number, Ordering::SeqCst);
        self.renewed.notify_waiters();
    }

    /// Waits until every new epoch that was asked for is in force.
    pub(crate) async fn all_renewed(&self) {
        loop {
            let renewed = self.renewed.notified();
            tokio::pin!(renewed);
            // Registered before the check, or an epoch between the two would be missed.
            renewed.as_mut().enable();
            if !self.is_renewing() {
                return;
            }
            renewed.await;
        }
    }

    pub(crate) fn is_renewing(&self) -> bool {
        self.renewals_asked.load(Ordering::SeqCst) != self.renewals_made.load(Ordering::SeqCst)
    }

    pub(crate) fn set_round(&self, round: Round) {
        let is_first = self.round.lock().replace(round).is_none();
        if is_first {
            self.changed.notify_one();
        }
    }

    pub(crate) fn round(&self) -> Option<Round> {
        self.round.lock().clone()
    }

    /// This process begins a chain.
    pub(crate) fn begin(&self, chain: &Chain) {
        let mut own = self.own_chains.lock();
        if own.len() >= OWN_CHAINS_MAX {
            own.pop_front();
        }
        own.push_back(chain.clone());
    }

    /// Whether this process announced it, so that it has forgotten already.
    pub(crate) fn is_own(&self, chain: &Chain) -> bool {
        self.own_chains.lock().contains(chain)
    }

    pub(crate) fn set_reachable(&self, is_reachable: bool) {
        self.is_reachable.store(is_reachable, Ordering::SeqCst);
    }

    /// Whether L2 is used, and why not, for an operator.
    pub(crate) fn state(&self) -> L2State {
        if self.trust().is_some() {
            L2State::Trusted
        } else if !self.is_reachable.load(Ordering::SeqCst) {
            L2State::Unconnected
        } else if self.is_renewing() {
            L2State::Renewing
        } else {
            L2State::Unchecked
        }
    }

    /// Waits until trust is lost or something must be done for it.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    //! When leave to use L2 ends.

    use super::*;

    fn trust() -> Arc<Trust> {
        let (chain, epochs) = (Chain::fresh(), HashMap::new());
        Arc::new(Trust { chain, epochs, mark: AtomicU64::new(1) })
    }

    #[tokio::test]
    async fn leave_ends_when_the_data_set_is_another_one() {
        let dataset = Dataset::default();
        let (one, two) = (trust(), trust());
        dataset.grant(Arc::clone(&one));
        dataset.lost(&two);
        assert!(dataset.trust().is_some(), "an old reader found an old data set");
        dataset.lost(&one);
        assert!(dataset.trust().is_none());
        dataset.grant(Arc::clone(&two));
        dataset.check();
        assert!(dataset.trust().is_none());
    }

    /// Fails if a synchronisation that began before the requirement grants leave.
    #[tokio::test]
    async fn a_requirement_made_while_an_epoch_is_made_stays_open() {
        let dataset = Dataset::default();
        dataset.require_epoch(Some(EntityId(1)), false);
        let (renewal, number) = dataset.take_renewal();
        assert!(renewal.covers(EntityId(1)) && !renewal.covers(EntityId(2)));
        dataset.require_epoch(None, true);
        dataset.renewed(number);
        dataset.grant(trust());
        assert!(dataset.trust().is_none() && dataset.is_renewing());
        let (renewal, number) = dataset.take_renewal();
        assert!(renewal.covers(EntityId(2)) && renewal.forgets);
        dataset.put_back(renewal);
        let (renewal, _) = dataset.take_renewal();
        assert!(renewal.all);
        dataset.renewed(number);
        dataset.grant(trust());
        assert!(dataset.trust().is_some());
    }
}
