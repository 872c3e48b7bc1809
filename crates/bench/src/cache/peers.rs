//! The sides of the `cache` bench, each behind one small file.

use std::sync::Arc;

use crate::cache::replica::{Node, Site};
use crate::side::Boxed;
use crate::{node, versions};

pub mod amalgam;
pub mod bentocache;
pub mod hitbox;
pub mod multi_tier;
pub mod ours;

/// Starts a replica.
type Start = fn(Site) -> Boxed<'static, anyhow::Result<Node>>;

/// A side that has two levels.
pub struct Peer {
    /// Name and version; ours is `ours`.
    pub name: String,
    /// In the namespace of its keys.
    pub short: &'static str,
    /// What tells other replicas of a write; `None` when nothing does.
    pub bus: Option<&'static str>,
    start: Start,
}

impl Peer {
    /// Starts a replica.
    ///
    /// # Errors
    /// When a store cannot be reached.
    pub async fn start(&self, site: &Site) -> anyhow::Result<Node> {
        (self.start)(site.clone()).await
    }

    /// Whether this is we.
    pub fn is_ours(&self) -> bool {
        self.name == OURS
    }
}

/// Our name.
pub const OURS: &str = "ours";

/// One that runs on Node: reads of it are timed there, or in milliseconds.
pub fn on_node() -> Peer {
    Peer {
        name: node::version_of("bentocache"),
        short: "bentocache",
        bus: Some("Pub/Sub"),
        start: |site| {
            Box::pin(
                async move { Ok(Arc::new(bentocache::Bentocache::start(&site).await?) as Node) },
            )
        },
    }
}

/// All others, ours first.
pub fn all() -> Vec<Peer> {
    vec![
        Peer {
            name: OURS.to_owned(),
            short: "ours",
            bus: Some("outbox and log"),
            start: |site| Box::pin(async move { Ok(Arc::new(ours::Ours::start(&site)?) as Node) }),
        },
        Peer {
            name: versions::of("amalgam-cache"),
            short: "amalgam",
            bus: Some("Pub/Sub"),
            start: |site| {
                Box::pin(async move {
                    Ok(Arc::new(amalgam::Amalgam::start(&site, false).await?) as Node)
                })
            },
        },
        Peer {
            name: format!("{} strict", versions::of("amalgam-cache")),
            short: "strict",
            bus: Some("Pub/Sub"),
            start: |site| {
                Box::pin(async move {
                    Ok(Arc::new(amalgam::Amalgam::start(&site, true).await?) as Node)
                })
            },
        },
        Peer {
            name: versions::of("multi-tier-cache"),
            short: "multitier",
            bus: Some("Pub/Sub"),
            start: |site| {
                Box::pin(
                    async move { Ok(Arc::new(multi_tier::MultiTier::start(&site).await?) as Node) },
                )
            },
        },
        Peer {
            name: versions::of("hitbox"),
            short: "hitbox",
            bus: None,
            start: |site| {
                Box::pin(async move { Ok(Arc::new(hitbox::Hitbox::start(&site)?) as Node) })
            },
        },
    ]
}
