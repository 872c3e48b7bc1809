//! What an operator may see and do: look at one entry, drop one entry.

use std::sync::{Arc, Weak};
use std::time::Duration;

use forebay_redis::RedisError;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::changes::pending::Invalidation;
use crate::entity_cache::EntityInner;
use crate::l1::local::EntityId;
use crate::l2::remote::Space;
use crate::l2::wire::{self, Content, Header};
use crate::reads::warm_up::Warmed;
use crate::{Cache, ChangedRow, Entity, EntityStats, Loader, Reach};

/// One cache entry in both levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// State in this process; absent when it is not there.
    pub l1: Option<LevelEntry>,
    /// State in Redis; absent when it is not there. A tombstone shows as a negative entry of no
    /// known age.
    pub l2: Option<LevelEntry>,
}

/// One cache entry in one level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelEntry {
    /// Version of the row it was filled from.
    pub version: i64,
    /// Size of the encoded value.
    pub size_bytes: usize,
    /// Time since it was filled, if the level knows.
    pub age: Option<Duration>,
    /// Time until it expires, if the level knows.
    pub time_to_live: Option<Duration>,
    /// Whether it says that there is no such row.
    pub negative: bool,
}

/// Why an entry could not be inspected or dropped.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The process has no such entity.
    #[error("there is no cached entity of this name")]
    UnknownEntity {
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The text is not a key of the entity.
    #[error("the text is not a key of the entity")]
    NotAKey,
    /// Redis did not answer.
    #[error("the entry in Redis could not be read")]
    Redis(#[source] RedisError),
}

impl Cache {
    /// The state of one entry in both levels.
    ///
    /// # Errors
    /// [`InspectError`].
    pub async fn inspect(&self, entity: &str, key_text: &str) -> Result<Inspection, InspectError> {
        self.find(entity)?.inspect(key_text).await
    }

    /// Drops one entry from both levels, on every replica. Returns when Redis has confirmed or
    /// `l2_timeout` is over; then it goes on in the background.
    ///
    /// # Errors
    /// [`InspectError::UnknownEntity`] or [`InspectError::NotAKey`].
    pub async fn evict(&self, entity: &str, key_text: &str) -> Result<(), InspectError> {
        self.find(entity)?.evict(key_text).await
    }

    pub(crate) fn find(&self, name: &str) -> Result<Arc<dyn AnyEntity>, InspectError> {
        let entities = self.0.entities.read();
        let found = entities.iter().find(|entity| entity.name() == name);
        found.map(Arc::clone).ok_or_else(|| InspectError::UnknownEntity {
            known: entities.iter().map(|entity| entity.name()).collect(),
        })
    }
}

/// An entity whose types are not known.
pub(crate) trait AnyEntity: Send + Sync {
    fn name(&self) -> &'static str;
    /// What the process calls it; absent once nobody uses it any more.
    fn id(&self) -> Option<EntityId>;
    /// Its state; absent once nobody uses it any more.
    fn stats(&self) -> Option<EntityStats>;
    /// The table behind the entity.
    fn source(&self) -> &'static str;
    /// The text of the key under which a changed row is cached.
    fn key_text_of(&self, id: &str, key: &str) -> Option<String>;
    /// Its place in L2; absent once nobody uses it any more.
    fn space(&self) -> Option<Space>;
    /// What Redis is told of a change; absent once nobody uses the entity any more.
    fn invalidation(&self, key_text: &str, version: i64) -> Option<Invalidation>;
    /// Forgets a key in this process, unless it has this version or a newer one.
    fn forget(&self, key_text: &str, version: Option<i64>);
    /// Makes every page of a list old; does nothing to other entities.
    fn forget_pages(&self);
    fn inspect<'a>(&'a self, key_text: &'a str) -> BoxFuture<'a, Result<Inspection, InspectError>>;
    fn evict<'a>(&'a self, key_text: &'a str) -> BoxFuture<'a, Result<(), InspectError>>;
    /// The keys that are read most in this process, with a number that says how often of late.
    fn hottest(&self, count: usize) -> Vec<(u32, String)>;
    /// Reads keys, so that L1 has them; how many it found in which place.
    fn warm_up(&self, key_texts: Vec<String>) -> BoxFuture<'_, Warmed>;
}

impl<E: Entity, L: Loader<E>> AnyEntity for Weak<EntityInner<E, L>> {
    fn name(&self) -> &'static str {
        E::NAME
    }

    fn id(&self) -> Option<EntityId> {
        self.upgrade().map(|entity| entity.id)
    }

    fn stats(&self) -> Option<EntityStats> {
        self.upgrade().map(|entity| entity.stats())
    }

    fn source(&self) -> &'static str {
        E::SOURCE
    }

    fn key_text_of(&self, id: &str, key: &str) -> Option<String> {
        if E::REACH == Reach::Collection {
            // All pages are meant.
            return Some(String::new());
        }
        let key = E::key_of(ChangedRow { id, key });
        if key.is_none() {
            tracing::warn!(cache.entity = E::NAME, id, "a changed row has no key of this entity");
        }
        key.map(|key| E::key_text(&key))
    }

    fn space(&self) -> Option<Space> {
        self.upgrade().map(|entity| entity.space())
    }

    fn invalidation(&self, key_text: &str, version: i64) -> Option<Invalidation> {
        let entity = self.upgrade()?;
        Some(Invalidation { is_own: false, ..entity.invalidation(key_text, version) })
    }

    fn forget(&self, key_text: &str, version: Option<i64>) {
        let Some(entity) = self.upgrade() else { return };
        if let Some(pages) = entity.collection() {
            pages.change(version);
        } else if let Some(key) = E::parse_key(key_text) {
            entity.forget(&key, version);
        }
    }

    fn forget_pages(&self) {
        if let Some(pages) = self.upgrade().as_ref().and_then(|entity| entity.collection()) {
            pages.restart();
        }
    }

    fn inspect<'a>(&'a self, key_text: &'a str) -> BoxFuture<'a, Result<Inspection, InspectError>> {
        Box::pin(async move {
            let Resolved { entity, key } = resolve(self, key_text)?;
            let l1 = entity.inspect_l1(&key);
            let l2_key = entity.space().entry_key(&E::key_text(&key));
            let stored = entity.cache.remote.inspect(&l2_key).await.map_err(InspectError::Redis)?;
            let in_force = entity.cache.remote.in_force(entity.space()).await;
            let in_force = in_force.map_err(InspectError::Redis)?;
            let l2 = stored.and_then(|(stored, time_to_live)| {
                let size_of = |content: &Content| match content {
                    Content::Value { body, .. } => body.len(),
                    Content::Negative { .. } | Content::Tombstone => 0,
                };
                let is_live = |content: &Content| {
                    // An entry of another epoch is as good as gone.
                    header_of(content).is_none_or(|it| in_force == Some(it.epoch))
                };
                let stored = wire::decode(&stored).filter(|stored| is_live(&stored.content));
                stored.map(|stored| LevelEntry {
                    version: stored.version,
                    size_bytes: size_of(&stored.content),
                    age: header_of(&stored.content)
                        .map(|it| entity.cache.clock.since(it.filled_at_ms)),
                    time_to_live,
                    negative: !matches!(stored.content, Content::Value { .. }),
                })
            });
            Ok(Inspection { l1, l2 })
        })
    }

    fn evict<'a>(&'a self, key_text: &'a str) -> BoxFuture<'a, Result<(), InspectError>> {
        Box::pin(async move {
            let Resolved { entity, key } = resolve(self, key_text)?;
            if entity.collection().is_some() {
                // All pages go: only the collection can be told of.
                entity.table_changed(&[0]).await;
                return Ok(());
            }
            // Version zero with force: whatever version is there goes, and a fill under way stays
            // shut out because its lease is void.
            entity.invalidate(&[(key, 0)], true).await;
            Ok(())
        })
    }

    fn hottest(&self, count: usize) -> Vec<(u32, String)> {
        self.upgrade().map_or_else(Vec::new, |entity| entity.hottest(count))
    }

    fn warm_up(&self, key_texts: Vec<String>) -> BoxFuture<'_, Warmed> {
        Box::pin(async move {
            match self.upgrade() {
                Some(entity) => entity.warm_up(&key_texts).await,
                None => Warmed::default(),
            }
        })
    }
}

/// The entity and its key, which both operations need first.
fn resolve<E: Entity, L: Loader<E>>(
    entity: &Weak<EntityInner<E, L>>,
    key_text: &str,
) -> Result<Resolved<E, L>, InspectError> {
    let gone = || InspectError::UnknownEntity { known: Vec::new() };
    let entity = entity.upgrade().ok_or_else(gone)?;
    let key = E::parse_key(key_text).ok_or(InspectError::NotAKey)?;
    Ok(Resolved { entity, key })
}

struct Resolved<E: Entity, L: Loader<E>> {
    entity: Arc<EntityInner<E, L>>,
    key: E::Key,
}

fn header_of(content: &Content) -> Option<&Header> {
    match content {
        Content::Value { header, .. } | Content::Negative { header } => Some(header),
        Content::Tombstone => None,
    }
}

impl<E: Entity, L: Loader<E>> EntityInner<E, L> {
    fn inspect_l1(&self, key: &E::Key) -> Option<LevelEntry> {
        let hash = self.local.hash(self.id, key);
        let slot = self.local.get(self.id, hash, key)?;
        Some(LevelEntry {
            version: slot.version,
            size_bytes: slot.size_bytes::<E>(),
            age: Some(slot.fetched_at.elapsed()),
            time_to_live: Some(slot.expires_at.saturating_duration_since(Instant::now())),
            negative: slot.is_negative(),
        })
    }
}
