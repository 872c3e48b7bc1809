//! Dropping everything of an entity, or everything, at the wish of an operator.

use std::sync::Arc;

use tokio::task::JoinError;

use crate::announce::Announcement;
use crate::local::EntityId;
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
    /// Drops every entry of an entity, or of all for `None`, from both levels, on every replica.
    ///
    /// Of all entities it is a new epoch, which costs one command. Of one entity L2 is looked
    /// through in steps; if Redis fails meanwhile, a new epoch drops all entities instead. Waits
    /// for Redis no longer than `l2_timeout` for an epoch.
    ///
    /// # Errors
    /// [`InspectError::UnknownEntity`].
    pub async fn clear(&self, entity: Option<&str>) -> Result<Cleared, InspectError> {
        let Some(name) = entity else { return Ok(self.renew(None).await) };
        let entity = self.find(name)?;
        let Some(id) = entity.id() else {
            return Err(InspectError::UnknownEntity { known: Vec::new() });
        };
        // L2 first: L1 would be filled from there again.
        if !self.0.remote.clear(entity.name()).await {
            return Ok(self.renew(Some(id)).await);
        }
        let l1_entries = self.forget_l1(Some(id)).await;
        let message = Announcement::everything_of(&self.0.origin, entity.name()).encode();
        if !self.0.remote.announce(&message).await {
            let confirmed = self.renew(Some(id)).await.confirmed;
            return Ok(Cleared { l1_entries, confirmed });
        }
        Ok(Cleared { l1_entries, confirmed: true })
    }

    /// Puts a new epoch in force and drops L1 of this process.
    async fn renew(&self, entity: Option<EntityId>) -> Cleared {
        // Required first: from then on L2 is not read, so L1 cannot be filled from there.
        self.0.link.require_epoch();
        let l1_entries = self.forget_l1(entity).await;
        let made = self.0.link.epochs_settled();
        let confirmed = tokio::time::timeout(self.0.l2_timeout, made).await.is_ok();
        Cleared { l1_entries, confirmed }
    }

    /// Looking through L1 takes milliseconds for each ten thousand entries.
    async fn forget_l1(&self, entity: Option<EntityId>) -> u64 {
        let inner = Arc::clone(&self.0);
        let forgotten = tokio::task::spawn_blocking(move || inner.local.forget(entity)).await;
        match forgotten.map_err(JoinError::try_into_panic) {
            Ok(entries) => entries,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            // The runtime ends, and L1 with it.
            Err(Err(_cancelled)) => 0,
        }
    }
}
