//! What is known of one replica.

use std::time::Duration;

use tokio::time::Instant;

use super::{Consistency, Lsn, ReplicaState};

/// Reads in a row that a replica may fail before it is left alone.
const VOTES_MAX: u32 = 3;
/// What was seen longer ago is not believed. Several looks must have been missed by then.
const BELIEVED_FOR: Duration = Duration::from_secs(2);

/// What is known of one replica, by the last look and the reads since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) state: ReplicaState,
    /// Everything up to here is visible there.
    pub(super) replayed: Lsn,
    pub(super) lag_bytes: u64,
    /// Age of the newest transaction that was replayed; zero if there was nothing to replay.
    pub(super) lag: Duration,
    /// Everything that was committed before this instant is visible there.
    complete_until: Option<Instant>,
    seen_at: Option<Instant>,
    votes: u32,
    pub(super) ejections: u64,
}

/// What one look found at a replica.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) replayed: Lsn,
    /// Absent if the primary did not say where it is.
    pub(super) behind: Option<Behind>,
}

/// How far a replica was behind the primary.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behind {
    pub(super) bytes: u64,
    /// Age of its newest transaction by the clock of the primary, zero if there is nothing to
    /// replay; absent if it has not replayed any since it was started.
    pub(super) time: Option<Duration>,
    /// Before the primary was asked.
    pub(super) asked_at: Instant,
}

impl Standing {
    pub(super) fn new() -> Self {
        Self {
            state: ReplicaState::Unknown,
            replayed: Lsn::default(),
            lag_bytes: 0,
            lag: Duration::ZERO,
            complete_until: None,
            seen_at: None,
            votes: 0,
            ejections: 0,
        }
    }

    /// Whether a read that must see so much may be tried there.
    pub(super) fn answers(&self, consistency: Consistency) -> bool {
        if self.state != ReplicaState::Following {
            return false;
        }
        let is_within = |since: Option<Instant>, bound: Duration| {
            since.is_some_and(|since| since.elapsed() <= bound)
        };
        match consistency {
            Consistency::Primary => false,
            Consistency::AtLeast(lsn) => {
                self.replayed >= lsn && is_within(self.seen_at, BELIEVED_FOR)
            }
            Consistency::Lagging(max) => is_within(self.complete_until, max),
        }
    }

    /// Whether reads under way there are to be moved.
    pub(super) fn is_out(&self) -> bool {
        match self.state {
            ReplicaState::Unknown | ReplicaState::Following => false,
            ReplicaState::Ejected | ReplicaState::Promoted => true,
        }
    }

    /// A look found it following.
    pub(super) fn follows(&mut self, seen: Seen, now: Instant) {
        // A replica that was restarted begins a little earlier than it had come.
        let went_back = seen.replayed < self.replayed;
        self.state = ReplicaState::Following;
        self.votes = 0;
        self.replayed = seen.replayed;
        self.seen_at = Some(now);
        if went_back {
            self.complete_until = None;
        }
        let Some(behind) = seen.behind else {
            return;
        };
        let until = behind.time.and_then(|time| behind.asked_at.checked_sub(time));
        self.complete_until = self.complete_until.max(until);
        self.lag_bytes = behind.bytes;
        self.lag = behind.time.unwrap_or_else(|| {
            self.complete_until.map_or(Duration::ZERO, |until| now.duration_since(until))
        });
    }

    /// A read found it further on.
    pub(super) fn reached(&mut self, replayed: Lsn) {
        self.replayed = self.replayed.max(replayed);
        self.votes = 0;
    }

    /// A read failed because of it.
    pub(super) fn vote(&mut self) {
        self.votes += 1;
        if self.votes >= VOTES_MAX {
            self.leave(ReplicaState::Ejected);
        }
    }

    /// It is of no use for now.
    pub(super) fn leave(&mut self, state: ReplicaState) {
        if !self.is_out() {
            self.ejections += 1;
        }
        self.state = state;
    }

    /// Whether a read that went well has something to take back.
    pub(super) fn has_votes(&self) -> bool {
        self.votes > 0
    }
}

#[cfg(test)]
mod tests;
