//! What an operator sees of the replicas.

use std::time::Duration;

use super::Lsn;
use crate::PgPoolStats;

/// How it stands with a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaState {
    /// Not seen yet.
    Unknown,
    /// It follows the primary.
    Following,
    /// It failed, and is left alone until it is seen well.
    Ejected,
    /// It answers, and follows nobody: it was promoted, or never was a replica.
    Promoted,
}

impl ReplicaState {
    /// A short stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Following => "following",
            Self::Ejected => "ejected",
            Self::Promoted => "promoted",
        }
    }
}

/// State of one replica at one moment, with its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaStats {
    /// `host:port`.
    pub address: String,
    /// How it stands.
    pub state: ReplicaState,
    /// Up to where the log was replayed when it was last looked at.
    pub replayed: Lsn,
    /// Bytes of the log that it had not replayed then.
    pub lag_bytes: u64,
    /// Age of the newest replayed transaction then; zero if there was nothing to replay.
    pub lag: Duration,
    /// Reads that it answered.
    pub reads: u64,
    /// Reads that were moved from it to somebody else.
    pub moved: u64,
    /// Times it was left alone.
    pub ejections: u64,
    /// Its connection pool.
    pub pool: PgPoolStats,
}

/// State of the replicas of one primary at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterStats {
    /// In the order of `postgres.replica_urls`.
    pub replicas: Vec<ReplicaStats>,
    /// Times that writes were moved to another server, because the primary took none any more.
    pub primary_moves: u64,
    /// Places of the primary taken by reads that no replica could answer.
    pub fallback_in_use: usize,
    /// How many of them there are.
    pub fallback_max: usize,
    /// Reads that wait for one.
    pub fallback_waiting: usize,
    /// Reads refused because too many waited.
    pub fallback_shed: u64,
}
