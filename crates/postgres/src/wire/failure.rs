//! A statement without an answer, before it becomes an error of its caller.

use std::future::Future;
use std::sync::Arc;

use forebay_pooling::Deadline;
use futures_util::FutureExt as _;

use crate::PgError;
use crate::error::{is_fatal, was_not_sent};
use crate::wire::last_words::LastWords;

/// A statement that failed, with what its caller needs to know to repeat it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What to tell the caller.
    pub(crate) error: PgError,
    /// Whether the connection went away with it.
    pub(crate) is_lost: bool,
    /// Whether the server may have begun to execute it.
    reached_server: bool,
    /// Whether the server answered that it did nothing.
    is_outcome_known: bool,
}

impl Failure {
    /// A failure that the server has not seen.
    pub(crate) fn refused(error: PgError) -> Self {
        Self { error, is_lost: false, reached_server: false, is_outcome_known: true }
    }

    /// What an error of the driver says.
    pub(crate) fn of_driver(error: tokio_postgres::Error) -> Self {
        let is_lost = is_fatal(&error);
        let is_answer = error.as_db_error().is_some() && !is_lost;
        let is_known = is_answer || was_not_sent(&error);
        let error = PgError::from(error);
        // A pooler that refuses has not passed the statement on.
        let is_outcome_known = is_known || matches!(error, PgError::Pooler { .. });
        Self { error, is_lost, reached_server: true, is_outcome_known }
    }

    /// As [`Failure::of_driver`], in a session that may have ended before the statement was sent.
    pub(crate) fn in_session(error: tokio_postgres::Error, last_words: &LastWords) -> Self {
        let is_answer = error.as_db_error().is_some();
        let failure = Self::of_driver(error);
        match last_words.heard() {
            Some(error) if failure.is_lost && !is_answer => {
                Self { error, is_lost: true, reached_server: false, is_outcome_known: true }
            }
            Some(_) | None => failure,
        }
    }

    /// Our own deadline came first.
    pub(crate) fn late() -> Self {
        let error = PgError::StatementTimeout { source: None };
        Self { error, is_lost: false, reached_server: true, is_outcome_known: false }
    }

    /// What the failure means for a statement that commits by itself.
    pub(crate) fn of_write(self) -> PgError {
        if !self.is_outcome_known && self.reached_server {
            let source = Arc::new(self.error);
            return PgError::UnknownOutcome { source };
        }
        self.error
    }

    /// The same failure, of something that came before the statement itself.
    pub(crate) fn before_execution(self) -> Self {
        Self { reached_server: false, ..self }
    }

    /// "cached plan must not change result type", or the prepared statement is gone.
    pub(crate) fn is_stale_plan(&self) -> bool {
        matches!(self.error.sqlstate(), Some("0A000" | "26000"))
    }
}

/// Cuts `work` off at `deadline`. Not an `async fn`, which would store `work` twice.
pub(crate) fn by<T>(
    deadline: Deadline,
    work: impl Future<Output = Result<T, Failure>>,
) -> impl Future<Output = Result<T, Failure>> {
    tokio::time::timeout_at(deadline.instant(), work)
        .map(|outcome| outcome.unwrap_or_else(|_elapsed| Err(Failure::late())))
}
