//! Dropping everything of an entity, or everything, at the wish of an operator.

use std::sync::Arc;

use tokio::task::JoinError;

use crate::l1::local::EntityId;
use crate::{Cache, InspectError};

/// What clearing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleared {
    /// Entries dropped from L1 of this process.
    pub l1_entries: u64,
    /// Whether Redis has confirmed. If not, it is told in the background as soon as it answers,
    /// and L2 is not used before.
    pub confirmed: bool,
}

impl Cache {
    /// Drops every entry of an entity, or of all for `None`, from both levels, on every replica: a new
    /// epoch, which costs one command. Waits for it no longer than `l2_timeout`.
    ///
    /// # Errors
    /// [`InspectError::UnknownEntity`].
    pub async fn clear(&self, entity: Option<&str>) -> Result<Cleared, InspectError> {
        let id = match entity {
            None => None,
            Some(name) => {
                let gone = || InspectError::UnknownEntity { known: Vec::new() };
                Some(self.find(name)?.id().ok_or_else(gone)?)
            }
        };
        // Required first: from then on L2 is not read, so L1 cannot be filled from there.
        self.0.dataset.require_epoch(id, true);
        for entity in
            self.0.entities.read().iter().filter(|it| id.is_none_or(|id| it.id() == Some(id)))
        {
            entity.forget_pages();
        }
        let l1_entries = self.forget_l1(id).await;
        let made = self.0.dataset.all_renewed();
        let confirmed = tokio::time::timeout(self.0.config.l2_timeout, made).await.is_ok();
        Ok(Cleared { l1_entries, confirmed })
    }

    /// Looking through L1 takes milliseconds for each ten thousand entries.
    async fn forget_l1(&self, entity: Option<EntityId>) -> u64 {
        let inner = Arc::clone(&self.0);
        let forgotten = tokio::task::spawn_blocking(move || {
            inner.local.forget(entity) + inner.pages.forget(entity)
        })
        .await;
        match forgotten.map_err(JoinError::try_into_panic) {
            Ok(entries) => entries,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and L1 with it.
            Err(Err(_cancelled)) => 0,
        }
    }
}
