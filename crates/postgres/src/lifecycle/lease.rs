//! A connection on loan to one caller.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use forebay_pooling::{CloseReason, Deadline};
use tokio::time::Instant;
use tokio_postgres::types::ToSql;

use crate::Sql;
use crate::lifecycle::janitor;
use crate::lifecycle::shelf::{PgPermit, Taken};
use crate::pool::Shared;
use crate::wire::answer::Answer;
use crate::wire::connection::PgConnection;
use crate::wire::failure::Failure;

/// A checked-out connection with the permit for it. However it is dropped, the connection goes
/// back clean or not at all.
pub(crate) struct Lease(Option<Held>);

/// What a lease holds. The fields drop in order: the next caller, let in by
/// the permit, must find the connection already returned.
pub(crate) struct Held {
    pub(crate) connection: Taken,
    pub(crate) permit: PgPermit,
    pub(crate) shared: Arc<Shared>,
    since: Instant,
}

impl Lease {
    pub(crate) fn new(
        connection: Taken,
        permit: PgPermit,
        shared: Arc<Shared>,
        since: Instant,
    ) -> Self {
        Self(Some(Held { connection, permit, shared, since }))
    }

    /// Since when its caller has it.
    pub(crate) fn since(&self) -> Instant {
        self.0.as_ref().expect("only drop and discard take it").since
    }

    /// How long its caller waited for the permit.
    pub(crate) fn waited(&self) -> Duration {
        self.0.as_ref().expect("only drop and discard take it").permit.waited()
    }

    /// Runs a statement until `deadline`, and tells who looks at this lease what it is used for.
    pub(crate) fn run<'a, A: Answer + 'a>(
        &'a mut self,
        deadline: Deadline,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<A, Failure>> + Send + 'a {
        let held = self.0.as_ref().expect("only drop and discard take it");
        held.permit.set_note(Some(sql.summary()));
        self.run_noted(deadline, sql, params)
    }

    /// Runs the statement whose summary was the note at the checkout.
    pub(crate) fn run_noted<'a, A: Answer + 'a>(
        &'a mut self,
        deadline: Deadline,
        sql: &'a Sql,
        params: &'a [&'a (dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<A, Failure>> + Send + 'a {
        let held = self.0.as_mut().expect("only drop and discard take it");
        held.connection.run_by(deadline, held.shared.runtime(), sql, params)
    }

    /// Counts the time that the connection is used from now on.
    pub(crate) fn restart_hold(&mut self) {
        let held = self.0.as_mut().expect("only drop and discard take it");
        held.since = Instant::now();
        held.permit.restart_hold(held.since);
    }

    /// Closes the connection and keeps the right to another one.
    pub(crate) fn discard(mut self) -> PgPermit {
        let Held { mut connection, permit, .. } =
            self.0.take().expect("only drop and discard take it");
        connection.poison(CloseReason::Broken);
        permit
    }
}

impl Deref for Lease {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0.as_ref().expect("only drop and discard take it").connection
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0.as_mut().expect("only drop and discard take it").connection
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(mut held) = self.0.take() else {
            return;
        };
        let now = Instant::now();
        held.shared.metrics().used(now.saturating_duration_since(held.since));
        if held.connection.take_read_only()
            && let Some(router) = held.shared.router()
        {
            router.suspect();
        }
        if held.connection.was_lost_in_service() {
            held.shared.retries().connection_lost();
        }
        held.connection.touch(now);
        if held.connection.is_clean() || held.connection.is_dead() {
            held.give_back(now);
        } else {
            janitor::clean(held);
        }
    }
}

impl Held {
    /// Passes the connection on to the caller whose turn it is, or returns it to bb8, which closes
    /// it unless it is usable.
    pub(crate) fn give_back(self, now: Instant) {
        let Self { connection, permit, shared, since: _ } = self;
        // Who is in the line was let in before those at the gate.
        let is_usable = shared.manager().reason_to_close(&connection).is_none();
        let is_for_next = is_usable && shared.line().is_empty();
        let (permit, connection) = if is_for_next {
            match permit.pass_on(connection, now) {
                Ok(()) => return,
                Err(both) => both,
            }
        } else {
            (permit, connection)
        };
        // bb8 may want to open another connection, also when a lease is dropped outside the runtime.
        let _runtime = shared.runtime().enter();
        drop(connection);
        permit.give_back(now);
    }
}
