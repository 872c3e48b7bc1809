//! Statistics of connection pools in their form on the wire.

use std::time::Duration;

use forebay_pooling::{Holder, Priority};
use forebay_proto::ops::v1 as pb;

mod cache;
mod postgres;
mod redis;

pub(crate) use cache::cache;
pub(crate) use postgres::postgres;
pub(crate) use redis::redis;

fn reason(reason: &str, count: u64) -> pb::ReasonCount {
    pb::ReasonCount { reason: reason.to_owned(), count }
}

fn holder(holder: &Holder) -> pb::ConnectionHolder {
    let Holder { location, held, priority, trace: _, note } = holder;
    pb::ConnectionHolder {
        location: format!("{}:{}", location.file(), location.line()),
        age: duration(*held),
        statement: note.unwrap_or_default().to_owned(),
        priority: priority.as_str().to_owned(),
    }
}

/// Queues, the most urgent first.
fn priorities(waiting: [u32; 3], reserved: u32) -> Vec<pb::PriorityQueueStats> {
    let mut queues: Vec<_> = Priority::ALL
        .into_iter()
        .zip(waiting)
        .map(|(priority, waiting)| pb::PriorityQueueStats {
            priority: priority.as_str().to_owned(),
            waiting,
            reserved_connections: if priority == Priority::Admin { reserved } else { 0 },
        })
        .collect();
    // Of the three, health checks and operators come first.
    queues.rotate_right(1);
    queues
}

/// A time on the wire; ages are days at most, far inside what it can carry.
fn duration(time: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time).ok()
}

/// The same where zero means that there is nothing of that age.
fn age(time: Duration) -> Option<prost_types::Duration> {
    duration(time).filter(|_| !time.is_zero())
}

/// A length on the wire; the queues are bounded far below the limit.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
