//! The two things a statement can be asked for, and how it is sent.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::Sql;
use crate::wire::statements::Prepared;

/// What a statement is asked for: its rows, or how many rows it touched.
pub(crate) trait Answer: Sized + Send {
    /// Sends the statement and waits for the whole answer.
    fn ask(
        client: &Client,
        sql: &Sql,
        prepared: &Prepared,
        params: &[&(dyn ToSql + Sync)],
    ) -> impl Future<Output = Result<Self, tokio_postgres::Error>> + Send;
}

impl Answer for Vec<Row> {
    async fn ask(
        client: &Client,
        sql: &Sql,
        prepared: &Prepared,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Self, tokio_postgres::Error> {
        match prepared {
            Prepared::Named(statement) => client.query(statement, params).await,
            Prepared::Unnamed(types) => client.query_typed(sql.text(), &typed(params, types)).await,
        }
    }
}

impl Answer for u64 {
    async fn ask(
        client: &Client,
        sql: &Sql,
        prepared: &Prepared,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Self, tokio_postgres::Error> {
        match prepared {
            Prepared::Named(statement) => client.execute(statement, params).await,
            Prepared::Unnamed(types) => {
                client.execute_typed(sql.text(), &typed(params, types)).await
            }
        }
    }
}

/// Parameters with their types. One too many or too few is for the server to refuse.
fn typed<'a>(
    params: &[&'a (dyn ToSql + Sync)],
    types: &[Type],
) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let types = types.iter().cloned().chain(std::iter::repeat(Type::UNKNOWN));
    params.iter().copied().zip(types).collect()
}
