//! The task that makes L2 right and keeps it so: it synchronises with the data set that Redis holds,
//! tells it of changes, and claims how far it has been told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use forebay_pooling::Backoff;
use tokio::time::Instant;

use crate::cache::Entities;
use crate::changes::announce::{Announcement, What};
use crate::changes::announced::{Announced, Chain, Memory};
use crate::changes::outbox::{Base, Change, Cursor, Outbox, Snapshot};
use crate::changes::pending::{Invalidation, Pending};
use crate::l2::dataset::{Dataset, Renewal, Trust};
use crate::l2::remote::{Claim, Remote, Space, Step, Synchronized, Told};
use crate::metrics::{Forgotten, Metrics};

/// Changes told in one step: half a millisecond of the server.
const STEP_MAX: usize = 64;
/// Steps sent with one pipeline.
const STEPS_MAX: usize = 8;
/// Others whose announcements are adopted in one step.
const OTHERS_MAX: usize = 16;
/// How often a claim is made, if there is something new to claim.
const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// How old a claim may become while nothing changes: far less than the time it is good for.
const CLAIM_AGE_MAX: Duration = Duration::from_secs(600);
/// Changes that a data set may have missed; with more, all its entries are given up.
const REPLAYED_MAX: usize = 50_000;
/// Pauses between attempts while Redis does not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// What it works with.
pub(crate) struct Keeper {
    pub(crate) outbox: Outbox,
    pub(crate) remote: Arc<Remote>,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) entities: Entities,
    pub(crate) metrics: Arc<Metrics>,
}

/// What was claimed last.
#[derive(Debug, Default)]
struct Claimed {
    chain: Option<Chain>,
    snapshot: Option<Snapshot>,
    at: Option<Instant>,
}

/// It did not work out; it will be tried again.
#[derive(Debug)]
struct Failed;

impl Keeper {
    /// Never ends.
    pub(crate) async fn run(self) {
        let mut failures = 0_u32;
        let mut claimed = Claimed::default();
        loop {
            match self.turn(&mut claimed).await {
                Ok(true) => failures = 0,
                Ok(false) => {
                    failures = 0;
                    tokio::select! {
                        () = self.pending.added() => {}
                        () = self.dataset.changed() => {}
                        () = tokio::time::sleep(CLAIM_INTERVAL) => {}
                    }
                }
                Err(Failed) => {
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(BACKOFF.delay(failures)).await;
                }
            }
        }
    }

    /// Does the next thing there is to do. Whether there may be more.
    async fn turn(&self, claimed: &mut Claimed) -> Result<bool, Failed> {
        let Some(trust) = self.dataset.trust() else {
            // Before the outbox is followed nobody knows which changes to tell.
            return if self.dataset.round().is_none() || self.spaces().is_empty() {
                Ok(false)
            } else {
                self.synchronize().await.map(|()| true)
            };
        };
        let sent = self.tell(&trust).await;
        if let Err(Failed) = sent {
            // The step may have been taken or not, so its mark can never be used again.
            self.dataset.lost(&trust);
            return Err(Failed);
        }
        if let Ok(true) = sent {
            return Ok(true);
        }
        let done = self.claim(&trust, claimed).await;
        if done.is_err() {
            self.dataset.lost(&trust);
        }
        done.map(|()| false)
    }

    fn spaces(&self) -> Vec<Space> {
        self.entities.read().iter().filter_map(|entity| entity.space()).collect()
    }

    /// Makes sure that every change that this process knows of, or will not be told of any more, is
    /// known to the data set that Redis holds now. Then L2 may be trusted.
    async fn synchronize(&self) -> Result<(), Failed> {
        // Taken before the epoch is made: entries of a new one are read after this.
        let Some(round) = self.dataset.round() else { return Ok(()) };
        let claim = Claim { text: round.base.to_claim() };
        let (renewal, number) = self.dataset.take_renewal();
        let synchronized = self.begin(&renewal, &claim).await;
        let Ok((chain, found)) = synchronized else {
            self.dataset.set_reachable(false);
            self.dataset.put_back(renewal);
            return Err(Failed);
        };
        self.dataset.set_reachable(true);
        self.dataset.renewed(number);
        let epochs = found.iter().map(|(space, found)| (space.id, found.epoch)).collect();
        let trust = Arc::new(Trust { chain, epochs, mark: AtomicU64::new(1) });
        for (claim, spaces) in by_claim(found) {
            if let Err(reason) = self.replay(&claim, &spaces).await? {
                self.metrics.forgot(Forgotten::L2, reason);
                for space in spaces {
                    self.dataset.require_epoch(Some(space.id), false);
                }
                // Everything anew, with the epochs that are needed.
                return Ok(());
            }
        }
        let ticket = self.pending.next_ticket();
        while !self.pending.is_settled_before(ticket) {
            self.tell(&trust).await?;
        }
        self.metrics.synchronized();
        self.dataset.grant(trust);
        Ok(())
    }

    async fn begin(
        &self,
        renewal: &Renewal,
        claim: &Claim,
    ) -> Result<(Chain, Vec<(Space, Synchronized)>), Failed> {
        let chain = Chain::fresh();
        // Before it is announced anything by this name.
        self.dataset.begin(&chain);
        let spaces: Vec<_> = self
            .spaces()
            .into_iter()
            .map(|space| {
                let everything = Announcement {
                    chain: chain.clone(),
                    mark: 1,
                    entity: space.entity,
                    what: What::Everything,
                };
                let tells = renewal.covers(space.id) && renewal.forgets;
                let message = if tells { everything.encode() } else { Bytes::new() };
                (space, renewal.covers(space.id), message)
            })
            .collect();
        let found = self.remote.synchronize(&chain, claim, &spaces).await.ok_or(Failed)?;
        Ok((chain, spaces.into_iter().map(|(space, ..)| space).zip(found).collect()))
    }

    /// Lets every change wait that the data set may not know: those that the snapshot of its claim
    /// did not see. The inner error says why nobody can name them.
    async fn replay(
        &self,
        claim: &str,
        spaces: &[Space],
    ) -> Result<Result<(), &'static str>, Failed> {
        let Some(base) = Base::of_claim(claim) else { return Ok(Err("no_claim")) };
        let (mut cursor, mut replayed) = (Cursor::default(), 0);
        loop {
            let page = self.outbox.unseen(Some(&base.snapshot), cursor).await;
            let page = page.map_err(|_said_by_the_tail| Failed)?;
            if let Some(gap) = base.gap_to(&page.base) {
                return Ok(Err(gap.as_str()));
            }
            replayed += page.changes.len();
            if replayed > REPLAYED_MAX {
                return Ok(Err("too_many"));
            }
            if !self.let_wait(&page.changes, spaces) {
                return Ok(Err("truncated"));
            }
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(Ok(())),
            }
        }
    }

    /// Whether each change could be named.
    fn let_wait(&self, changes: &[Change], spaces: &[Space]) -> bool {
        let entities = self.entities.read();
        let ours: HashSet<_> = spaces.iter().map(|space| space.id).collect();
        let mut waiting = Vec::new();
        for change in changes {
            let of_source = entities.iter().filter(|entity| {
                entity.source() == change.source && entity.id().is_some_and(|id| ours.contains(&id))
            });
            for entity in of_source {
                let Some((id, key)) = &change.row else { return false };
                let key_text = entity.key_text_of(id, key);
                waiting.extend(key_text.and_then(|it| entity.invalidation(&it, change.version)));
            }
        }
        self.pending.add(waiting, &self.dataset);
        true
    }

    /// Tells the data set of some changes that wait. Whether there were any.
    async fn tell(&self, trust: &Trust) -> Result<bool, Failed> {
        let batch = self.pending.batch(STEP_MAX * STEPS_MAX);
        if batch.is_empty() {
            return Ok(false);
        }
        let (adoptable, rest) = self.adoptable(batch);
        if !adoptable.0.is_empty() {
            let others: Vec<_> = adoptable.1.into_iter().collect();
            match self.remote.adopt(trust, &others).await {
                Step::Done => self.pending.confirm(&adoptable.0),
                Step::NotThere => {
                    // The log was read on another server. What is in it says nothing here.
                    self.memory.clear();
                    return Ok(true);
                }
                Step::OtherDataset | Step::Failed => return Err(Failed),
            }
        }
        let told: Vec<_> = rest.chunks(STEP_MAX).zip(trust.mark() + 1..).collect();
        let steps = told.iter().map(|(changes, mark)| self.told(trust, changes, *mark));
        let steps: Vec<_> = steps.collect();
        if steps.is_empty() {
            return Ok(true);
        }
        let outcomes = self.remote.invalidate(trust, &steps).await;
        for ((changes, mark), outcome) in told.iter().zip(outcomes) {
            if outcome != Step::Done {
                return Err(Failed);
            }
            for (_, change) in *changes {
                let (version, chain) = (change.version, trust.chain.clone());
                let announced = Announced { version, chain, mark: *mark };
                self.memory.remember(&change.memory_key(), announced);
            }
            self.pending.confirm(changes);
        }
        Ok(true)
    }

    fn told<'a>(&self, trust: &Trust, changes: &'a [(u64, Invalidation)], mark: u64) -> Told<'a> {
        let message = |change: &Invalidation| {
            let Invalidation { entity, schema, key_text, .. } = change;
            let (schema, version) = (*schema, change.announced_version());
            let what = What::Key { schema, version, key_text };
            Announcement { chain: trust.chain.clone(), mark, entity, what }.encode()
        };
        let messages = changes.iter().map(|(_, change)| message(change)).collect();
        Told { changes, messages }
    }

    /// The changes that somebody else has announced, with how far his mark must be for that, and
    /// the others.
    #[expect(clippy::type_complexity, reason = "two halves of one list, and what goes with one")]
    fn adoptable(
        &self,
        batch: Vec<(u64, Invalidation)>,
    ) -> ((Vec<(u64, Invalidation)>, HashMap<Chain, u64>), Vec<(u64, Invalidation)>) {
        let (mut adoptable, mut others, mut rest) = (Vec::new(), HashMap::new(), Vec::new());
        for (ticket, change) in batch {
            let announced = self.memory.of(&change.memory_key(), change.version);
            match announced.filter(|_| change.is_adoptable()) {
                Some(Announced { chain, mark, .. })
                    if others.len() < OTHERS_MAX || others.contains_key(&chain) =>
                {
                    let highest = others.entry(chain).or_insert(mark);
                    *highest = mark.max(*highest);
                    adoptable.push((ticket, change));
                }
                Some(_) | None => rest.push((ticket, change)),
            }
        }
        ((adoptable, others), rest)
    }

    async fn claim(&self, trust: &Trust, claimed: &mut Claimed) -> Result<(), Failed> {
        let Some(round) = self.dataset.round() else { return Ok(()) };
        let is_early = claimed.at.is_some_and(|at| at.elapsed() < CLAIM_INTERVAL);
        let is_first = claimed.chain.as_ref() != Some(&trust.chain);
        if (is_early && !is_first) || !self.pending.is_settled_before(round.ticket) {
            return Ok(());
        }
        let is_same = claimed.snapshot.as_ref() == Some(&round.base.snapshot);
        let is_young = claimed.at.is_some_and(|at| at.elapsed() < CLAIM_AGE_MAX);
        if is_same && is_young && !is_first {
            return Ok(());
        }
        let claim = Claim { text: round.base.to_claim() };
        match self.remote.claim(trust, &self.spaces(), &claim).await {
            Step::Done => {
                let (chain, at) = (Some(trust.chain.clone()), Some(Instant::now()));
                *claimed = Claimed { chain, snapshot: Some(round.base.snapshot), at };
                Ok(())
            }
            Step::OtherDataset | Step::NotThere | Step::Failed => Err(Failed),
        }
    }
}

/// The entities whose entries were there before, by what the data set claims of them.
fn by_claim(found: Vec<(Space, Synchronized)>) -> HashMap<String, Vec<Space>> {
    let mut groups: HashMap<_, Vec<_>> = HashMap::new();
    for (space, Synchronized { claim, .. }) in found {
        groups.entry(claim.unwrap_or_default()).or_default().push(space);
    }
    groups
}
