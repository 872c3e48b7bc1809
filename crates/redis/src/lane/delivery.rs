//! What becomes of a request that was given to a lane.

use bb8_redis::redis::{self, ServerError, Value};

use crate::RedisError;
use crate::error::REFUSED_FOR_NOW;
use crate::request::{Answers, Request};

/// The answers and the number of the connection they came on, or why there are none.
pub(crate) type Delivered = Result<(Answers, u64), Returned>;

/// What came instead of an answer, with the request itself where it may be right to send it again.
#[derive(Debug)]
pub(crate) enum Returned {
    /// It never left this process: the server certainly did not see it.
    Unsent(Refused),
    /// The server of this connection refused it without executing it, and may take it later.
    NotExecuted(Box<Request>, u64, ServerError),
    /// It was handed to the driver and the connection of this number ended before the answer.
    Lost(Box<Request>, u64, redis::RedisError),
}

/// Why a request was not sent.
#[derive(Debug, Clone)]
pub(crate) enum Refused {
    /// Too many others wait.
    Shed {
        /// How many.
        waiting: usize,
    },
    /// The lane takes no more requests.
    Draining,
    /// There was no connection to send it on.
    NoConnection(RedisError),
}

/// The answer to one command, or the command itself if the server refused it for now.
pub(super) fn deliver_one(
    value: Value,
    number: u64,
    request: impl FnOnce() -> Request,
) -> Delivered {
    match value {
        Value::ServerError(error) if REFUSED_FOR_NOW.contains(&error.code()) => {
            Err(Returned::NotExecuted(Box::new(request()), number, error))
        }
        value => Ok((Answers::One(value), number)),
    }
}
