//! How changes become known: the outbox of Postgres is the authority, the log in Redis the fast way.

pub(crate) mod announce;
pub(crate) mod announced;
pub(crate) mod log;
pub(crate) mod newest;
pub(crate) mod outbox;
pub(crate) mod own;
pub(crate) mod pending;
pub(crate) mod progress;
pub(crate) mod settled;
pub(crate) mod snapshots;
pub(crate) mod tail;
