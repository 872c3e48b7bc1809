//! Loads that bring something older than what is known to have been committed.
//!
//! A loader should read the server that takes writes. If it does not, or that server follows another
//! one all of a sudden, what it brings may be old, and would be cached as new. So what it brings is
//! compared with what this process knew of the key before: what waits for Redis or was announced, the
//! tombstone in L2, the entry in L1. What is older is read again from the server that takes writes,
//! and refused if it is older than what this process itself knew then. That there is no row has no
//! version, so it is read again if anything is known of the key: it may have been deleted, or not
//! have come yet.

use std::sync::Arc;

use super::flight::{Ticket, Waiters};
use super::loads::{Brought, Loaded};
use crate::entity_cache::EntityInner;
use crate::{CacheError, Entity, Loader, Reach};

/// A key that is loaded.
pub(crate) struct Wanted<E: Entity, L: Loader<E>> {
    pub(crate) key: E::Key,
    pub(crate) hash: u64,
    pub(crate) entry_key: String,
    /// The newest version that L2 knows of; zero if none.
    pub(crate) in_l2: i64,
    pub(crate) waiters: Waiters<E, L>,
}

impl<E: Entity, L: Loader<E>> Wanted<E, L> {
    pub(crate) fn new(ticket: &Ticket<E, L>, entry_key: &str, in_l2: i64) -> Self {
        let (key, hash, entry_key) = (ticket.key.clone(), ticket.hash, entry_key.to_owned());
        Self { key, hash, entry_key, in_l2, waiters: ticket.waiters() }
    }
}

/// What was loaded, and what was known before.
pub(crate) struct Known<E: Entity> {
    pub(crate) loaded: Arc<Loaded<E>>,
    /// For each key that was wanted: the version that must be there at least; zero if none.
    pub(crate) at_least: Vec<i64>,
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// Reads keys from the store, from the server that takes writes if `newest`; what is older than
    /// what is known is read again from there.
    pub(crate) async fn load_known(
        self: &Arc<Self>,
        wanted: &[Wanted<E, L>],
        newest: bool,
    ) -> Result<Known<E>, CacheError<L::Error>> {
        // Before the load: what is committed while it is under way it need not have seen.
        let at_least: Vec<_> = wanted.iter().map(|wanted| self.committed_version(wanted)).collect();
        let all: Vec<_> = wanted.iter().collect();
        let loaded = self.load(&all, newest).await?;
        if newest {
            return Ok(Known { loaded, at_least });
        }
        // A tombstone may be of a history that another process knows to be lost, so it is a reason
        // to look again, and none to refuse what is found then.
        let is_behind = |(wanted, at_least): &(&Wanted<E, L>, &i64)| {
            let known = wanted.in_l2.max(**at_least);
            match loaded.get(&wanted.key) {
                Brought::Row(entry) => entry.version < known,
                Brought::NoRow => known > 0,
                Brought::NotLoaded => false,
            }
        };
        let pairs = wanted.iter().zip(&at_least).filter(is_behind);
        let behind: Vec<_> = pairs.map(|(wanted, _)| wanted).collect();
        if behind.is_empty() {
            return Ok(Known { loaded, at_least });
        }
        self.cache.metrics.filled(E::NAME, "behind");
        let newest = self.load(&behind, true).await?;
        let keys = behind.into_iter().map(|wanted| &wanted.key);
        let loaded = Arc::new(loaded.replaced(keys, &newest));
        Ok(Known { loaded, at_least })
    }

    /// The newest version of a key that this process knows to have been committed; zero if none is.
    fn committed_version(&self, wanted: &Wanted<E, L>) -> i64 {
        // Pages have no versions: a change makes them old, and nothing compares them.
        if E::REACH == Reach::Collection {
            return 0;
        }
        let Wanted { key, hash, entry_key, .. } = wanted;
        let in_l1 = self.local.get(self.id, *hash, key).map_or(0, |slot| slot.version);
        let waiting = self.cache.pending.committed_version_of(entry_key).unwrap_or(0);
        let announced = self.cache.memory.committed_version_of(entry_key).unwrap_or(0);
        in_l1.max(waiting).max(announced)
    }
}
