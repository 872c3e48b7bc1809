//! What this process does with changes: its own, and those it hears of.

use crate::changes::pending::Invalidation;
use crate::entity_cache::EntityInner;
use crate::l1::local::Slot;
use crate::l2::remote::Space;
use crate::lists::collection::Collection;
use crate::reads::flight::Ticket;
use crate::{Entity, Loader};

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    /// Forgets a key in this process, unless it has this version or a newer one.
    pub(crate) fn forget(&self, key: &E::Key, version: Option<i64>) {
        let hash = self.local.hash(self.id, key);
        self.local.invalidate(self.id, hash, key, version);
    }

    /// To be noted before the first read of a fill.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        match &self.collection {
            None => self.local.generation(hash),
            Some(pages) => u64::try_from(pages.generation()).unwrap_or(u64::MAX),
        }
    }

    /// Whether entries live long enough to be shared. Pages do not while their table changes: each
    /// would cost two round trips and be old before anybody reads it.
    pub(crate) fn is_calm(&self) -> bool {
        self.collection.as_ref().is_none_or(|pages| pages.is_calm(self.cache.config.list.calm))
    }

    /// Whether an entry of L1 contains the changes that this process has heard of. Other entities
    /// remove what does not; of a list it is still there. To be asked after the view was taken.
    pub(crate) fn is_current(&self, slot: &Slot) -> bool {
        self.collection.as_ref().is_none_or(|pages| pages.generation() == slot.version)
    }

    /// Stores a slot in L1, unless something changed since the ticket was given.
    pub(crate) fn store(&self, ticket: &Ticket<E, L>, mut slot: Slot) {
        let generation = match &self.collection {
            None => ticket.generation,
            Some(_) => {
                // A change after this check makes the page old all the same: it keeps the
                // generation of its ticket.
                slot.version = i64::try_from(ticket.generation).unwrap_or(i64::MAX);
                if !self.is_current(&slot) {
                    return;
                }
                self.local.generation(ticket.hash)
            }
        };
        self.local.fill(self.id, ticket.hash, &ticket.key, generation, slot);
    }

    /// What the pages of a list have in common.
    pub(crate) fn collection(&self) -> Option<&Collection> {
        self.collection.as_ref()
    }

    /// Rows behind a list changed here, and got these versions; zero stands for a change that nobody
    /// can name.
    pub(crate) async fn table_changed(&self, versions: &[i64]) {
        let Some(pages) = &self.collection else { return };
        let waiting = versions.iter().map(|version| self.invalidation("", *version)).collect();
        // In this order, as for the entries of rows.
        self.cache.pending.add(waiting, &self.cache.dataset);
        for version in versions {
            pages.change((*version > 0).then_some(*version));
        }
        self.cache.metrics.invalidated(E::NAME, "local", versions.len());
        self.settle(&[self.space().collection_key()]).await;
    }

    /// The place of this entity in L2.
    pub(crate) fn space(&self) -> Space {
        Space {
            id: self.id,
            entity: E::NAME,
            schema: E::SCHEMA,
            is_list: self.collection.is_some(),
        }
    }

    /// What Redis is told of a change that was made here.
    pub(crate) fn invalidation(&self, key_text: &str, version: i64) -> Invalidation {
        let space = self.space();
        let is_list = space.is_list;
        Invalidation {
            entry_key: if is_list { space.collection_key() } else { space.entry_key(key_text) },
            entity: E::NAME,
            schema: E::SCHEMA,
            key_text: key_text.to_owned(),
            version,
            // Of a table every change counts, whatever its version is.
            force: is_list,
            is_list,
            is_own: true,
        }
    }

    pub(crate) async fn invalidate(&self, changes: &[(E::Key, i64)], force: bool) {
        if changes.is_empty() {
            return;
        }
        let invalidations: Vec<_> = changes
            .iter()
            .map(|(key, version)| Invalidation {
                force,
                ..self.invalidation(&E::key_text(key), *version)
            })
            .collect();
        let keys: Vec<_> = invalidations.iter().map(|change| change.entry_key.clone()).collect();
        // First pending, then forgotten: a read that begins in between must not take the old
        // value from L2 after L1 has lost it.
        self.cache.pending.add(invalidations, &self.cache.dataset);
        for (key, version) in changes {
            self.forget(key, (!force).then_some(*version));
        }
        self.cache.metrics.invalidated(E::NAME, "local", changes.len());
        self.settle(&keys).await;
    }

    /// Waits until Redis has confirmed the changes of these entries, but not for long.
    async fn settle(&self, entry_keys: &[String]) {
        if self.cache.dataset.trust().is_none() {
            return;
        }
        let settled = self.cache.pending.settled(entry_keys);
        if tokio::time::timeout(self.cache.config.l2_timeout, settled).await.is_err() {
            tracing::debug!(cache.entity = E::NAME, "an invalidation goes on in the background");
        }
    }
}
