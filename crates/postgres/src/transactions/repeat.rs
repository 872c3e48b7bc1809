//! Work that ends its own transaction, done again as a whole.

use std::future::Future;

use crate::transactions::retry::{ATTEMPTS_MAX, Repeat, Tries, Why};
use crate::{PgError, PgPool};

/// What it takes to do work again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repetition {
    /// The server has undone the work, or never began it.
    Undone,
    /// The work has one effect however often it is done: also when nobody knows whether it was.
    Idempotent,
}

impl PgPool {
    /// Does `work`, which opens and commits a transaction of its own, and does it again when that
    /// failed for a reason that passes: no connection, a connection that was lost before the
    /// commit was sent, a concurrent transaction, and for [`Repetition::Idempotent`] also a commit
    /// without an answer. `cause` finds the [`PgError`] in an error of the work.
    ///
    /// At most five tries within the deadline in scope, each paid for by the retry budget of the
    /// connection pool or by the connection that was lost. One that an administrator ended
    /// before the commit was sent is not counted. Where the closure needs nothing between its last statement and the commit,
    /// [`PgPool::tx`] does the same with less.
    ///
    /// # Errors
    /// Those of the last try.
    pub async fn repeat<T, E, F, R>(
        &self,
        repetition: Repetition,
        cause: impl Fn(&E) -> Option<&PgError>,
        mut work: F,
    ) -> Result<T, E>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, E>>,
    {
        let when = match repetition {
            Repetition::Undone => Repeat::Undone,
            Repetition::Idempotent => Repeat::Always,
        };
        let mut tries = Tries::new(self.shared(), ATTEMPTS_MAX);
        loop {
            let error = match work().await {
                Ok(value) => {
                    tries.succeeded();
                    return Ok(value);
                }
                Err(error) => error,
            };
            let why = cause(&error).and_then(Why::of).filter(|why| tries.allows(when, *why));
            let Some(why) = why else {
                return Err(error);
            };
            if !tries.again(why).await {
                return Err(error);
            }
        }
    }
}
