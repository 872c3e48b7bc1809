//! Several statements under way on one connection.

use std::sync::Arc;

use futures_util::future::join;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Activity, PgConnection};
use crate::reads::router::CURRENT_LSN;
use crate::wire::answer::Answer;
use crate::wire::failure::Failure;
use crate::wire::statements::Statements;
use crate::{Lsn, Sql};

impl PgConnection {
    /// The types of the parameters of a statement that was run here.
    pub(crate) fn types_of(&mut self, sql: &Sql) -> Option<Arc<[Type]>> {
        self.statements.get(sql.text()).map(|prepared| prepared.types())
    }

    /// What it takes to have several statements under way, and whether they may have names.
    /// Lost sight of before [`PgConnection::unshare`], the connection is closed.
    pub(crate) fn share(&mut self) -> (&Client, &mut Statements, bool) {
        self.activity = Activity::Prepare;
        (&self.client, &mut self.statements, self.mode.keeps_session())
    }

    /// Everything that was sent is answered.
    pub(crate) fn unshare(&mut self) {
        self.activity = Activity::None;
    }

    /// Runs `first` and then `sql`, sent together.
    pub(crate) async fn run_behind<A: Answer, B: Answer>(
        &mut self,
        first: &Sql,
        sql: &Sql,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<(A, B), Failure> {
        let (of_first, _) = self.prepared(first).await?;
        let (prepared, _) = self.prepared(sql).await?;
        self.activity = Activity::Statement;
        let first = A::ask(&self.client, first, &of_first, &[]);
        let second = B::ask(&self.client, sql, &prepared, params);
        // Both are polled before either is answered, in this order, and polling is what sends.
        let (first, second) = join(first, second).await;
        let first = self.settle(first);
        let second = self.settle(second);
        if second.as_ref().is_err_and(Failure::is_stale_plan) {
            self.statements.remove(sql.text());
        }
        Ok((first?, second?))
    }

    /// Commits the open transaction and asks, in the same round trip, where the log is then.
    pub(crate) async fn commit_lsn(&mut self) -> Result<Option<Lsn>, Failure> {
        self.activity = Activity::Commit;
        let commit = self.client.batch_execute("COMMIT");
        let position = self.client.simple_query(CURRENT_LSN.text());
        let (commit, position) = join(commit, position).await;
        let commit = self.settle(commit);
        if commit.is_ok() || self.activity == Activity::None {
            self.in_transaction = false;
        }
        // Whatever becomes of it, what is committed stays so.
        let position = self.settle(position);
        commit?;
        Ok(position.ok().and_then(|answer| position_in(&answer)))
    }
}

/// The position in the answer to [`CURRENT_LSN`].
fn position_in(answer: &[SimpleQueryMessage]) -> Option<Lsn> {
    answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    })
}
