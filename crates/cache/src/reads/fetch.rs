//! Reading keys that L1 does not answer: L2 first, then the store, then filling both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::changes::progress::View;
use crate::clock;
use crate::entity_cache::EntityInner;
use crate::l1::local::Slot;
use crate::l2::remote::{Fill, Filled, Found, Seen, There};
use crate::l2::wire::{self, Content, Epoch, Header, Stored};
use crate::reads::behind::{Known, Wanted};
use crate::reads::collector::Ride;
use crate::reads::flight::Ticket;
use crate::reads::loads::Brought;
use crate::reads::misses::Party;
use crate::reads::turn::Turn;
use crate::{CacheError, Entity, Entry, Loader, Lookup, Outcome};

/// What a batch knows before it reads anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) view: View,
    /// Whether L2 may be asked: the caller does not want the store itself, and this process knows
    /// of changes as far as the caller's bound demands.
    pub(crate) asks_l2: bool,
}

/// A key that L2 did not answer.
pub(super) struct Miss<E: Entity, L: Loader<E>> {
    pub(super) ticket: Ticket<E, L>,
    pub(super) entry_key: String,
    /// The newest version that is known of it; zero if none is.
    pub(super) version: i64,
    /// Leave to fill L2, if it was granted.
    pub(super) lease: Option<String>,
    /// What L2 holds of it.
    pub(super) there: There,
}

impl<E: Entity, L: Loader<E>> Miss<E, L> {
    fn wanted(&self) -> Wanted<E, L> {
        Wanted::new(&self.ticket, &self.entry_key, self.version)
    }

    /// What the key costs in memory.
    fn key_bytes(&self) -> usize {
        self.entry_key.len() + size_of::<E::Key>()
    }
}

/// What L2 said about a key.
pub(super) struct Hit<E: Entity> {
    /// Absent if there is no such row.
    entry: Option<Arc<Entry<E>>>,
    version: i64,
    filled_at_ms: u64,
}

impl<E: Entity> Hit<E> {
    fn lookup(&self) -> Lookup<E> {
        let outcome = if self.entry.is_some() { Outcome::HitL2 } else { Outcome::NegativeL2 };
        Lookup { value: self.entry.as_ref().map(Arc::clone), outcome }
    }
}

/// How long an entry of L1 lives, and from when on.
#[derive(Debug, Clone, Copy)]
struct Life {
    ttl: Duration,
    fetched_at: Instant,
    filled_at_ms: u64,
}

/// What the store said about a key.
struct Answer<E: Entity> {
    entry: Option<Arc<Entry<E>>>,
    version: i64,
    ttl: Duration,
    entry_key: String,
    lease: Option<String>,
    key: E::Key,
    hash: u64,
    too_large: bool,
}

impl<E: Entity> Answer<E> {
    /// Nothing to be kept: it gives the lease back.
    fn none<L: Loader<E>>(ticket: &Ticket<E, L>, entry_key: String, lease: Option<String>) -> Self {
        let (key, hash) = (ticket.key.clone(), ticket.hash);
        let ttl = Duration::ZERO;
        Self { entry: None, version: 0, ttl, entry_key, lease, key, hash, too_large: true }
    }
}

/// Reads all keys of a batch and answers everyone who waits for them. `ride` ends when L2 has
/// answered, so that those who come later need not wait for the store.
pub(crate) async fn fetch<E: Entity, L: Loader<E>>(
    inner: Arc<EntityInner<E, L>>,
    tickets: Vec<Ticket<E, L>>,
    departure: Departure,
    mut ride: Option<Ride<Party<E, L>>>,
) {
    let prefix = inner.space().entry_key("");
    let mut misses: Vec<_> = tickets
        .into_iter()
        .map(|ticket| {
            let key_text = E::key_text(&ticket.key);
            let entry_key = [prefix.as_str(), &key_text].concat();
            Miss { ticket, entry_key, version: 0, lease: None, there: There::Nothing }
        })
        .collect();
    let asked = if departure.asks_l2 {
        ask_l2(&inner, &mut misses, departure, &mut ride).await
    } else {
        None
    };
    let Some(epoch) = asked else {
        drop(ride);
        return load(&inner, misses, None, departure).await;
    };
    let turn = Turn::new(&inner, epoch);
    let (ours, held) = turn.ask(&inner, misses).await;
    drop(ride);
    let held = turn.wait(&inner, held, departure);
    futures_util::join!(load(&inner, ours, Some(epoch), departure), held);
}

/// Lands the tickets that L2 answers; the others stay. The epoch in which they may be filled.
async fn ask_l2<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    misses: &mut Vec<Miss<E, L>>,
    departure: Departure,
    ride: &mut Option<Ride<Party<E, L>>>,
) -> Option<Epoch> {
    let keys: Vec<_> = misses.iter().map(|miss| miss.entry_key.as_str()).collect();
    let Found { epoch, seen, .. } = inner.cache.remote.read(inner.space(), &keys, false).await?;
    // Nobody will have to be loaded, so those who come later need not wait for this batch.
    if seen.iter().all(|seen| matches!(seen, Seen::Usable(_))) {
        drop(ride.take());
    }
    let hits = take_hits(inner, misses, seen);
    if hits.len() > 1 {
        // The last one first: who waits for all of them waits for the first one, and is woken once.
        for (miss, hit) in hits.iter().rev() {
            miss.ticket.tell(Ok(hit.lookup()));
        }
        // They go on before this is put into L1, of which none of them is in need.
        tokio::task::yield_now().await;
    }
    land_hits(inner, hits, departure);
    Some(epoch)
}

/// Takes out what L2 answers; the others stay.
pub(super) fn take_hits<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    misses: &mut Vec<Miss<E, L>>,
    seen: Vec<Seen>,
) -> Vec<(Miss<E, L>, Hit<E>)> {
    let (mut left, mut hits) = (Vec::new(), Vec::with_capacity(misses.len()));
    for (mut miss, seen) in misses.drain(..).zip(seen) {
        miss.there = There::Nothing;
        match seen {
            Seen::Nothing => {}
            Seen::Tombstone(version) => miss.version = version,
            Seen::Unusable(version) => (miss.version, miss.there) = (version, There::Unusable),
            Seen::Damaged => miss.there = There::Damaged,
            Seen::Usable(stored) => {
                miss.version = stored.version;
                if let Some(hit) = hit(inner, stored) {
                    if miss.ticket.renews == Some(hit.filled_at_ms) {
                        // It is what L1 has, and may be about to expire.
                        miss.there = There::Due(hit.filled_at_ms);
                        left.push(miss);
                        continue;
                    }
                    hits.push((miss, hit));
                    continue;
                }
                miss.there = There::Unusable;
            }
        }
        left.push(miss);
    }
    *misses = left;
    hits
}

/// Stores in L1 what L2 holds, and answers everyone who waits and whoever came meanwhile.
pub(super) fn land_hits<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    hits: Vec<(Miss<E, L>, Hit<E>)>,
    departure: Departure,
) {
    for (miss, hit) in hits {
        // What L2 holds contains what this process knew to have changed, and no more.
        let Hit { entry, version, filled_at_ms } = &hit;
        let weight = Slot::weight_of(entry.as_ref(), miss.key_bytes());
        let is_worth = || inner.local.is_worth(miss.ticket.hash, entry.is_some().then_some(weight));
        // What is refreshed has its place already.
        if miss.ticket.renews.is_some() || is_worth() {
            let ttl = inner.time_to_live(entry.is_some());
            let ttl = clock::left(&inner.cache.clock, *filled_at_ms, ttl);
            let fetched_at = departure.view.caught_up_at;
            let life = Life { ttl, fetched_at, filled_at_ms: *filled_at_ms };
            inner.store(&miss.ticket, inner.slot(&miss, entry.as_ref(), *version, life, departure));
        }
        miss.ticket.land(Ok(hit.lookup()));
    }
}

/// The value of a decodable entry.
fn hit<E: Entity, L: Loader<E>>(inner: &EntityInner<E, L>, stored: Stored) -> Option<Hit<E>> {
    let version = stored.version;
    let (entry, header) = match stored.content {
        Content::Tombstone => return None,
        Content::Negative { header } => (None, header),
        Content::Value { body, header } => {
            if header.schema != E::SCHEMA || body.len() > inner.config.value_bytes_max {
                return None;
            }
            let value = E::decode(body.clone()).ok()?;
            (Some(Arc::new(Entry { value, encoded: body, version })), header)
        }
    };
    if header.schema != E::SCHEMA {
        return None;
    }
    Some(Hit { entry, version, filled_at_ms: header.filled_at_ms })
}

/// Reads from the store, and fills L2 in `epoch` where there is leave to.
pub(super) async fn load<E: Entity, L: Loader<E>>(
    inner: &Arc<EntityInner<E, L>>,
    misses: Vec<Miss<E, L>>,
    epoch: Option<Epoch>,
    departure: Departure,
) {
    if misses.is_empty() {
        return;
    }
    let wanted: Vec<_> = misses.iter().map(Miss::wanted).collect();
    // Who does not ask L2 wants the store as it is now.
    match inner.load_known(&wanted, !departure.asks_l2).await {
        Ok(known) => {
            let filled_at_ms = inner.cache.clock.unix_ms();
            let answers = land_rows(inner, misses, &known, departure, filled_at_ms);
            if let Some(epoch) = epoch {
                fill_l2(inner, answers, epoch, filled_at_ms).await;
            }
        }
        Err(error) => {
            let mut given_back = Vec::with_capacity(misses.len());
            for Miss { ticket, entry_key, lease, .. } in misses {
                ticket.land(Err(error.clone()));
                let (value, ttl) = (Vec::new(), Duration::ZERO);
                given_back.extend(lease.map(|lease| Fill {
                    entry_key,
                    lease,
                    version: 0,
                    value,
                    ttl,
                }));
            }
            if let Some(epoch) = epoch.filter(|_| !given_back.is_empty()) {
                // Somebody else may try at once.
                inner.cache.remote.fill(inner.space(), epoch, &given_back).await;
            }
        }
    }
}

/// Stores the rows in L1 and answers everyone who waits.
fn land_rows<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    misses: Vec<Miss<E, L>>,
    Known { loaded, at_least }: &Known<E>,
    departure: Departure,
    filled_at_ms: u64,
) -> Vec<Answer<E>> {
    let mut answers = Vec::with_capacity(misses.len());
    for (miss, at_least) in misses.into_iter().zip(at_least) {
        let entry = match loaded.get(&miss.ticket.key) {
            Brought::Row(entry) => Some(Arc::clone(entry)),
            Brought::NoRow => None,
            // Nobody waits for it.
            Brought::NotLoaded => {
                let Miss { ticket, entry_key, lease, .. } = miss;
                answers.push(Answer::none(&ticket, entry_key, lease));
                continue;
            }
        };
        if let Some(found) = entry.as_ref().map(|entry| entry.version).filter(|it| it < at_least) {
            let Miss { ticket, entry_key, lease, .. } = miss;
            answers.push(Answer::none(&ticket, entry_key, lease));
            ticket.land(Err(CacheError::Behind { known: *at_least, found }));
            continue;
        }
        // An absent row has no version of its own. The newest that was known before the load is
        // one that it has been through, and any change after it is newer.
        let version = entry.as_ref().map_or(miss.version, |entry| entry.version);
        let too_large =
            entry.as_ref().is_some_and(|entry| entry.encoded.len() > inner.config.value_bytes_max);
        let ttl = inner.time_to_live(entry.is_some());
        if !too_large {
            let life = Life { ttl, fetched_at: departure.view.at, filled_at_ms };
            let slot = inner.slot(&miss, entry.as_ref(), version, life, departure);
            inner.store(&miss.ticket, slot);
        }
        let Miss { ticket, entry_key, lease, .. } = miss;
        answers.push(Answer {
            entry: entry.clone(),
            version,
            ttl,
            entry_key,
            lease,
            key: ticket.key.clone(),
            hash: ticket.hash,
            too_large,
        });
        let outcome = if entry.is_some() { Outcome::Loaded } else { Outcome::Absent };
        ticket.land(Ok(Lookup { value: entry, outcome }));
    }
    answers
}

/// Stores what was loaded in L2, unless something newer is there by now.
async fn fill_l2<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    mut answers: Vec<Answer<E>>,
    epoch: Epoch,
    filled_at_ms: u64,
) {
    answers.retain(|answer| answer.lease.is_some());
    if answers.is_empty() {
        return;
    }
    let Ok(_permit) = inner.cache.fill_permits.try_acquire() else {
        inner.cache.metrics.filled(E::NAME, "shed");
        return;
    };
    let header = Header { epoch, schema: E::SCHEMA, filled_at_ms };
    let fills: Vec<_> = answers
        .iter()
        .filter_map(|answer| {
            let body = answer.entry.as_ref().map(|entry| Bytes::as_ref(&entry.encoded));
            let value = if answer.too_large {
                Vec::new()
            } else {
                wire::encode(body, answer.version, &header)
            };
            Some(Fill {
                entry_key: answer.entry_key.clone(),
                lease: answer.lease.clone()?,
                version: answer.version,
                value,
                ttl: answer.ttl,
            })
        })
        .collect();
    let results = inner.cache.remote.fill(inner.space(), epoch, &fills).await;
    for (answer, filled) in answers.iter().zip(results) {
        let result = match filled {
            Filled::Stored => "stored",
            Filled::Outdated => {
                // The announcement of the newer version is on its way here; until it arrives the
                // outdated entry need not be served.
                inner.local.invalidate(inner.id, answer.hash, &answer.key, None);
                "outdated"
            }
            Filled::Fenced => "fenced",
            Filled::Dropped => "dropped",
        };
        inner.cache.metrics.filled(E::NAME, result);
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    fn slot(
        &self,
        miss: &Miss<E, L>,
        entry: Option<&Arc<Entry<E>>>,
        version: i64,
        life: Life,
        departure: Departure,
    ) -> Slot {
        let Life { ttl, fetched_at, filled_at_ms } = life;
        let era = departure.view.era;
        let mut slot = Slot::new::<E>(entry, version, miss.key_bytes(), ttl, fetched_at, era);
        slot.filled_at_ms = filled_at_ms;
        slot
    }
}
