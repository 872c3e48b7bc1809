//! `forebay.ops.v1.OpsService`: what an operator asks a running process.
//!
//! The live state of its connection pools, its settings with their sources,
//! single cache entries, and the log filter. gRPC health follows the readiness
//! of the process ([`follow_readiness`]). [`Stores`] watches Postgres and Redis,
//! and ends them in order.
//!
//! Guarantees: secrets never leave the process (settings come redacted), and
//! nothing here waits for a store that is away, except for looking at or
//! dropping a cache entry, which the cache bounds.
//!
//! Failure modes: an entity or a key that does not exist is INVALID_ARGUMENT
//! naming it; Redis away while an entry is inspected is UNAVAILABLE.

mod readiness;
mod service;
mod stats;
mod stores;
mod warm_up;

pub use readiness::follow_readiness;
pub use service::{DOMAIN, OpsService};
pub use stores::Stores;
pub use warm_up::warm_up;
