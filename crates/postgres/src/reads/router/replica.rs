//! One server that follows the primary.

use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_config::{PostgresConfig, Secret};
use forebay_pooling::Deadline;
use tokio::sync::watch;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::standing::Standing;
use super::{Consistency, ReplicaState, ReplicaStats, ask};
use crate::{PgError, PgPool, Sql};

/// A replica with a connection pool of its own.
pub(super) struct Replica {
    pool: PgPool,
    address: String,
    standing: watch::Sender<Standing>,
    reads: AtomicU64,
    moved: AtomicU64,
}

/// What became of a read at a replica.
pub(super) enum Answer {
    /// The answer, or an error that another server would repeat.
    Final(Result<Vec<Row>, PgError>),
    /// This replica cannot answer: somebody else is to be asked.
    Elsewhere,
}

/// A statement and its parameters.
pub(super) type Statement<'a> = (&'a Sql, &'a [&'a (dyn ToSql + Sync)]);

impl Replica {
    pub(super) fn open(
        config: &PostgresConfig,
        service: &str,
        name: &'static str,
        url: &Secret,
    ) -> Result<Self, PgError> {
        let config = PostgresConfig {
            url: url.clone(),
            replica_urls: Vec::new(),
            // Whoever waits for a replica to come back could have asked somebody else.
            outage_grace: Duration::ZERO,
            ..config.clone()
        };
        let role = name.strip_prefix("postgres-").unwrap_or(name);
        let pool = PgPool::open(&config, service, name, role)?;
        Ok(Self {
            address: pool.address(),
            pool,
            standing: watch::Sender::new(Standing::new()),
            reads: AtomicU64::new(0),
            moved: AtomicU64::new(0),
        })
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Changes what is known, and tells those who read there if it is out.
    pub(super) fn change(&self, change: impl FnOnce(&mut Standing)) {
        let before = self.standing().state;
        self.standing.send_modify(change);
        let after = self.standing().state;
        if before != after {
            let address = &self.address;
            match after {
                ReplicaState::Unknown | ReplicaState::Following => {
                    tracing::info!(server.address = address, "a postgres replica takes reads");
                }
                ReplicaState::Ejected => {
                    tracing::warn!(server.address = address, "a postgres replica is left alone");
                }
                ReplicaState::Promoted => {
                    tracing::warn!(server.address = address, "a postgres replica follows nobody");
                }
            }
        }
    }

    /// How many callers it has.
    pub(super) fn load(&self) -> usize {
        let gate = self.pool.shared().gate().stats();
        gate.held + gate.waiting
    }

    pub(super) async fn read(
        &self,
        caller: &'static Location<'static>,
        statement: Statement<'_>,
        consistency: Consistency,
    ) -> Answer {
        let mut standing = self.standing.subscribe();
        let answer = tokio::select! {
            biased;
            answer = self.ask(caller, statement, consistency) => answer,
            // A frozen server says nothing; the monitor notices.
            _ = standing.wait_for(Standing::is_out) => Answer::Elsewhere,
        };
        let counter = match answer {
            Answer::Final(_) => &self.reads,
            Answer::Elsewhere => &self.moved,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        answer
    }

    pub(super) async fn drain(&self, deadline: Deadline) -> usize {
        self.pool.drain(deadline).await
    }

    pub(super) fn stats(&self) -> ReplicaStats {
        let standing = self.standing();
        ReplicaStats {
            address: self.address.clone(),
            state: standing.state,
            replayed: standing.replayed,
            lag_bytes: standing.lag_bytes,
            lag: standing.lag,
            reads: self.reads.load(Ordering::Relaxed),
            moved: self.moved.load(Ordering::Relaxed),
            ejections: standing.ejections,
            pool: self.pool.stats(),
        }
    }

    async fn ask(
        &self,
        caller: &'static Location<'static>,
        statement: Statement<'_>,
        consistency: Consistency,
    ) -> Answer {
        let Consistency::AtLeast(lsn) = consistency else {
            let outcome = ask::plain(self.pool.shared(), caller, statement).await;
            if outcome.is_ok() && self.standing().has_votes() {
                self.change(|standing| standing.reached(standing.replayed));
            }
            return outcome.map_or_else(|error| self.judge(error), |rows| Answer::Final(Ok(rows)));
        };
        match ask::guarded(self.pool.shared(), caller, statement).await {
            Err(error) => self.judge(error),
            Ok(guarded) => match guarded.replayed {
                None => {
                    self.change(|standing| standing.leave(ReplicaState::Promoted));
                    Answer::Elsewhere
                }
                Some(replayed) if replayed < lsn => {
                    // It went back: it was restarted, or is another server than before.
                    self.change(|standing| standing.replayed = replayed);
                    Answer::Elsewhere
                }
                Some(replayed) => {
                    let known = self.standing();
                    if replayed > known.replayed || known.has_votes() {
                        self.change(|standing| standing.reached(replayed));
                    }
                    Answer::Final(Ok(guarded.rows))
                }
            },
        }
    }

    /// Whether the error is about the replica or about the statement.
    fn judge(&self, error: PgError) -> Answer {
        match error {
            PgError::Unreachable { .. }
            | PgError::ServerSlots { .. }
            | PgError::Pooler { .. }
            | PgError::Auth { .. }
            | PgError::UnknownDatabase { .. }
            | PgError::Tls { .. }
            | PgError::ConnectionLost { .. }
            | PgError::ReadOnly { .. } => {
                self.change(Standing::vote);
                Answer::Elsewhere
            }
            // It is busy, or replaying the log took a row away from under the read.
            PgError::Shed { .. } | PgError::Serialization { .. } | PgError::Draining => {
                Answer::Elsewhere
            }
            PgError::Timeout { .. }
            | PgError::InvalidUrl { .. }
            | PgError::UnknownOutcome { .. }
            | PgError::StatementTimeout { .. }
            | PgError::LockTimeout { .. }
            | PgError::UniqueViolation { .. }
            | PgError::ForeignKeyViolation { .. }
            | PgError::CheckViolation { .. }
            | PgError::TransactionFailed
            | PgError::RowCount { .. }
            | PgError::SessionStatement { .. }
            | PgError::CustomType { .. }
            | PgError::Database { .. }
            | PgError::Mismatch { .. } => Answer::Final(Err(error)),
        }
    }
}
