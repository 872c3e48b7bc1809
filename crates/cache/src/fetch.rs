//! Reading keys that L1 does not answer: L2 first, then the store, then filling both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::collector::Ride;
use crate::entity_cache::EntityInner;
use crate::flight::Ticket;
use crate::link::Trust;
use crate::loads::Loaded;
use crate::local::Slot;
use crate::misses::Party;
use crate::progress::View;
use crate::remote::{FILL_AGE_MAX, Fill, Filled, Remote};
use crate::wire::{self, Content, Epoch, Header, Stored};
use crate::{Entity, Entry, Loader, Lookup, Outcome};

/// What a batch knows before it reads anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Departure {
    pub(crate) view: View,
    /// Whether L2 may be asked: the caller does not want the store itself, and this process knows
    /// of changes as far as the caller's bound demands.
    pub(crate) asks_l2: bool,
}

/// A key that L2 did not answer, with what is needed to fill L2 afterwards.
struct Miss<E: Entity, L: Loader<E>> {
    ticket: Ticket<E, L>,
    l2_key: String,
    /// The version that L2 held when it was asked; zero if it held none.
    l2_version: i64,
}

/// The state of L2 when it was asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    epoch: Epoch,
    trust: Trust,
}

/// What L2 said about a key.
struct Hit<E: Entity> {
    /// Absent if there is no such row.
    entry: Option<Arc<Entry<E>>>,
    version: i64,
    ttl: Duration,
}

/// What the store said about a key.
struct Answer<E: Entity> {
    entry: Option<Arc<Entry<E>>>,
    version: i64,
    l2_key: String,
    key: E::Key,
    hash: u64,
}

/// Reads all keys of a batch and answers everyone who waits for them. `ride` ends when L2 has
/// answered, so that those who come later need not wait for the store.
pub(crate) async fn fetch<E: Entity, L: Loader<E>>(
    inner: Arc<EntityInner<E, L>>,
    tickets: Vec<Ticket<E, L>>,
    departure: Departure,
    ride: Option<Ride<Party<E, L>>>,
) {
    let (misses, asked) = ask_l2(&inner, tickets, departure).await;
    drop(ride);
    if misses.is_empty() {
        return;
    }
    let keys = misses.iter().map(|miss| miss.ticket.key.clone()).collect();
    match inner.load(keys).await {
        Ok(loaded) => {
            let answers = land_rows(&inner, misses, &loaded, departure);
            if let Some(asked) = asked {
                fill_l2(&inner, answers, asked, departure).await;
            }
        }
        Err(error) => {
            for miss in misses {
                miss.ticket.land(Err(error.clone()));
            }
        }
    }
}

/// Lands the tickets that L2 answers; the others come back.
async fn ask_l2<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    tickets: Vec<Ticket<E, L>>,
    departure: Departure,
) -> (Vec<Miss<E, L>>, Option<Asked>) {
    let mut misses: Vec<_> = tickets
        .into_iter()
        .map(|ticket| {
            let l2_key = Remote::entry_key(E::NAME, &E::key_text(&ticket.key));
            Miss { ticket, l2_key, l2_version: 0 }
        })
        .collect();
    // Entries of keys with an unconfirmed change may be old in L2. Any such key in a batch means
    // that the batch is read from the store and not filled: that is rare and always right.
    let unconfirmed = misses.iter().any(|miss| inner.cache.pending.contains(&miss.l2_key));
    if !departure.asks_l2 || unconfirmed {
        return (misses, None);
    }
    let keys = misses.iter().map(|miss| miss.l2_key.clone()).collect();
    let Some(found) = inner.cache.remote.read(keys).await else {
        return (misses, None);
    };
    let asked = Asked { epoch: found.epoch, trust: found.trust };
    let mut left = Vec::new();
    for (mut miss, stored) in misses.drain(..).zip(found.stored) {
        miss.l2_version = stored.as_ref().map_or(0, |stored| stored.version);
        match stored.and_then(|stored| hit(inner, stored, &asked)) {
            Some(Hit { entry, version, ttl }) => {
                let outcome = if entry.is_some() { Outcome::HitL2 } else { Outcome::NegativeL2 };
                // What L2 holds contains what this process knew to have changed, and no more.
                let as_of = departure.view.caught_up_at;
                inner.fill_l1(&miss.ticket, entry.as_ref(), version, ttl, as_of, departure);
                miss.ticket.land(Ok(Lookup { value: entry, outcome }));
            }
            None => left.push(miss),
        }
    }
    (left, Some(asked))
}

/// The value of a trusted, complete, decodable entry, with the time it has left to live.
fn hit<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    stored: Stored,
    asked: &Asked,
) -> Option<Hit<E>> {
    let version = stored.version;
    let (entry, header, ttl) = match stored.content {
        Content::Tombstone => return None,
        Content::Negative { header } => (None, header, inner.config.negative_ttl),
        Content::Value { body, header } => {
            if header.schema != E::SCHEMA || body.len() > inner.config.value_bytes_max {
                return None;
            }
            let value = E::decode(body.clone()).ok()?;
            (Some(Arc::new(Entry { value, encoded: body, version })), header, inner.config.ttl)
        }
    };
    if header.schema != E::SCHEMA || header.epoch != asked.epoch {
        return None;
    }
    // The clock of the process that filled the entry may be wrong, so a tenth of the time is
    // granted in any case.
    let left = ttl.saturating_sub(header.age()).max(ttl / 10);
    Some(Hit { entry, version, ttl: left })
}

/// Stores the rows in L1 and answers everyone who waits.
fn land_rows<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    misses: Vec<Miss<E, L>>,
    loaded: &Loaded<E>,
    departure: Departure,
) -> Vec<Answer<E>> {
    let mut answers = Vec::with_capacity(misses.len());
    for Miss { ticket, l2_key, l2_version } in misses {
        let entry = loaded.get(&ticket.key).map(Arc::clone);
        // An absent row has no version of its own. The one that L2 held is the newest that was
        // known before the load, and any change after it is newer.
        let version = entry.as_ref().map_or(l2_version, |entry| entry.version);
        let too_large =
            entry.as_ref().is_some_and(|entry| entry.encoded.len() > inner.config.value_bytes_max);
        if !too_large {
            inner.fill_l1(
                &ticket,
                entry.as_ref(),
                version,
                inner.ttl_of(entry.is_some()),
                departure.view.at,
                departure,
            );
            answers.push(Answer {
                entry: entry.clone(),
                version,
                l2_key,
                key: ticket.key.clone(),
                hash: ticket.hash,
            });
        }
        let outcome = if entry.is_some() { Outcome::Loaded } else { Outcome::Absent };
        ticket.land(Ok(Lookup { value: entry, outcome }));
    }
    answers
}

/// Stores what was loaded in L2, unless something newer is there by now.
async fn fill_l2<E: Entity, L: Loader<E>>(
    inner: &EntityInner<E, L>,
    answers: Vec<Answer<E>>,
    asked: Asked,
    departure: Departure,
) {
    let Ok(_permit) = inner.cache.fill_permits.try_acquire() else {
        inner.cache.metrics.filled(E::NAME, "shed");
        return;
    };
    let remote = &inner.cache.remote;
    if answers.is_empty()
        || departure.view.at.elapsed() > FILL_AGE_MAX
        || !remote.still_trusted(asked.trust)
    {
        return;
    }
    let header = Header::now(asked.epoch, E::SCHEMA);
    let fills: Vec<_> = answers
        .iter()
        .map(|answer| {
            let body = answer.entry.as_ref().map(|entry| Bytes::as_ref(&entry.encoded));
            Fill {
                key: answer.l2_key.clone(),
                version: answer.version,
                value: wire::encode(body, answer.version, &header),
                ttl: inner.ttl_of(answer.entry.is_some()),
            }
        })
        .collect();
    let results = remote.fill(asked.epoch, &fills).await;
    for (answer, filled) in answers.iter().zip(results) {
        let result = match filled {
            Filled::Stored => "stored",
            Filled::Outdated => {
                // The announcement of the newer version is on its way here; until it arrives the
                // outdated entry need not be served.
                inner.cache.local.invalidate(inner.id, answer.hash, &answer.key, None);
                "outdated"
            }
            Filled::Dropped => "dropped",
        };
        inner.cache.metrics.filled(E::NAME, result);
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    fn fill_l1(
        &self,
        ticket: &Ticket<E, L>,
        entry: Option<&Arc<Entry<E>>>,
        version: i64,
        ttl: Duration,
        fetched_at: Instant,
        departure: Departure,
    ) {
        let key_bytes = E::key_text(&ticket.key).len() + size_of::<E::Key>();
        let era = departure.view.era;
        let slot = Slot::new::<E>(entry, version, key_bytes, ttl, fetched_at, era);
        self.cache.local.fill(self.id, ticket.hash, &ticket.key, ticket.generation, slot);
    }

    /// The time to live of a fresh entry, less up to a tenth, so that entries filled together do
    /// not expire together.
    fn ttl_of(&self, exists: bool) -> Duration {
        let ttl = if exists { self.config.ttl } else { self.config.negative_ttl };
        ttl.mul_f64(1.0 - 0.1 * rand::random::<f64>())
    }
}
