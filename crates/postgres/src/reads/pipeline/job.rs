//! One read on its way through the pipeline.

use std::error::Error;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;
use tokio_postgres::Row;
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};

use crate::Sql;
use crate::reads::departed::Departed;
use crate::wire::failure::Failure;

/// A statement with everything it needs, so that it outlives its caller.
pub(super) struct Job {
    pub(super) sql: Sql,
    /// Of the parameters, as they were encoded.
    pub(super) types: Arc<[Type]>,
    pub(super) params: Vec<Encoded>,
    pub(super) has_departed: Departed,
    reply: oneshot::Sender<Reply>,
}

/// Where the caller of a [`Job`] waits.
pub(super) struct Seat {
    pub(super) reply: oneshot::Receiver<Reply>,
    pub(super) has_departed: Departed,
}

/// What a pipe says about a [`Job`].
pub(super) enum Reply {
    /// All rows.
    Rows(Vec<Row>),
    /// No rows.
    Failed(Failure),
    /// The server knows the statement with other parameter types by now; it was not sent.
    Mistyped,
}

impl Job {
    pub(super) fn new(sql: Sql, types: Arc<[Type]>, params: Vec<Encoded>) -> (Self, Seat) {
        let (sender, receiver) = oneshot::channel();
        let has_departed = Departed::default();
        let seat = Seat { reply: receiver, has_departed: has_departed.clone() };
        (Self { sql, types, params, has_departed, reply: sender }, seat)
    }

    /// Whether the caller went away.
    pub(super) fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Tells the caller. One that went away is no failure.
    pub(super) fn reply(self, reply: Reply) {
        drop(self.reply.send(reply));
    }
}

/// A parameter in the form in which it travels.
#[derive(Debug)]
pub(super) struct Encoded {
    /// `None` is NULL.
    bytes: Option<Bytes>,
    is_text: bool,
}

/// The parameters as they travel; `None` if they do not fit the types.
pub(super) fn encode(params: &[&(dyn ToSql + Sync)], types: &[Type]) -> Option<Vec<Encoded>> {
    if params.len() != types.len() {
        return None;
    }
    let mut buffer = BytesMut::new();
    let mut encode = |(param, of): (&&(dyn ToSql + Sync), &Type)| {
        let bytes = match param.to_sql_checked(of, &mut buffer).ok()? {
            IsNull::Yes => None,
            IsNull::No => Some(buffer.split().freeze()),
        };
        let is_text = matches!(param.encode_format(of), Format::Text);
        Some(Encoded { bytes, is_text })
    };
    params.iter().zip(types).map(&mut encode).collect()
}

impl ToSql for Encoded {
    fn to_sql(
        &self,
        _of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match &self.bytes {
            None => Ok(IsNull::Yes),
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
        }
    }

    /// The pipe compares the types before it sends.
    fn accepts(_of: &Type) -> bool {
        true
    }

    fn encode_format(&self, _of: &Type) -> Format {
        if self.is_text { Format::Text } else { Format::Binary }
    }

    to_sql_checked!();
}
