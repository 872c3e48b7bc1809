//! The fast way: announcements of other processes, read from a stream in Redis as they are made.
//!
//! The outbox is the authority, so nothing is lost with a connection but time, and nothing is
//! flushed. After a reconnection the reader goes on where it was. If the stream was trimmed or
//! replaced meanwhile, it starts at its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_pooling::Backoff;
use forebay_redis::{Command, DedicatedRedis, RedisError, RedisPool, Reply};
use tokio::time::Instant;

use crate::cache::Entities;
use crate::changes::announce::{Announcement, What};
use crate::changes::announced::{Announced, Memory};
use crate::changes::pending::one_of;
use crate::l1::local::Local;
use crate::l2::dataset::Dataset;
use crate::l2::remote::LOG_KEY;
use crate::metrics::Metrics;

/// How long one question waits for something new.
const BLOCK: Duration = Duration::from_secs(1);
/// Entries read at once.
const COUNT: &str = "512";
/// How long one connection is kept: shorter than what is reported as a leak, and often enough to
/// notice that the stream is another one.
const KEPT: Duration = Duration::from_secs(15);
/// Time that a command that does not block may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts while Redis does not answer.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// A position in the stream: milliseconds and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position(u64, u64);

impl Position {
    const START: Self = Self(0, 0);

    fn parse(text: &[u8]) -> Option<Self> {
        let (millis, number) = str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self(millis.parse().ok()?, number.parse().ok()?))
    }
}

/// What announcements are applied to.
pub(crate) struct LogReader {
    pub(crate) redis: RedisPool,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) local: Arc<Local>,
    pub(crate) entities: Entities,
    pub(crate) metrics: Arc<Metrics>,
}

impl LogReader {
    /// Never ends.
    pub(crate) async fn run(self) {
        let mut last = None;
        let mut failures = 0_u32;
        loop {
            match self.follow(&mut last, &mut failures).await {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(error = %error, "the log of changes is not read");
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(BACKOFF.delay(failures)).await;
                }
            }
        }
    }

    /// Reads with one connection for a while.
    async fn follow(
        &self,
        last: &mut Option<Position>,
        failures: &mut u32,
    ) -> Result<(), RedisError> {
        let mut lease = self.redis.dedicated().await?;
        let end = end(&mut lease).await?;
        // It answers. If the connection is cut now, the next one is worth a try at once.
        *failures = 0;
        // Behind the end is a place in another stream.
        let mut at = last.filter(|last| *last <= end).unwrap_or(end);
        *last = Some(at);
        let until = Instant::now() + KEPT;
        while Instant::now() < until {
            let (Position(millis, number), block) = (at, BLOCK.as_millis().to_string());
            let read = Command::new("XREAD")
                .arg("COUNT")
                .arg(COUNT)
                .arg("BLOCK")
                .arg(block)
                .arg("STREAMS")
                .key(LOG_KEY)
                .arg(format!("{millis}-{number}"));
            let reply = lease.call_blocking(&read, BLOCK).await?;
            for (position, message) in entries(&reply) {
                self.apply(&message);
                at = position;
                *last = Some(at);
            }
        }
        Ok(())
    }

    fn apply(&self, message: &[u8]) {
        let Some(Announcement { chain, mark, entity, what }) = Announcement::decode(message) else {
            tracing::warn!(bytes = message.len(), "an announcement cannot be read");
            return;
        };
        // This process forgot before it announced. Forgetting again would only void fills.
        if self.dataset.is_own(&chain) {
            return;
        }
        let entities = self.entities.read();
        for known in entities.iter().filter(|known| known.name() == entity) {
            match what {
                What::Everything => {
                    if let Some(id) = known.id() {
                        self.local.forget(Some(id));
                    }
                    known.forget_pages();
                }
                What::Key { schema, version, key_text } => {
                    // An operator drops a key whatever its version is.
                    let is_version = version > 0;
                    known.forget(key_text, is_version.then_some(version));
                    if let Some(space) =
                        known.space().filter(|it| it.schema == schema && is_version)
                    {
                        let announced = Announced { version, chain: chain.clone(), mark };
                        let key = if space.is_list {
                            one_of(&space.collection_key(), version)
                        } else {
                            space.entry_key(key_text)
                        };
                        self.memory.remember(&key, announced);
                    }
                }
            }
            self.metrics.invalidated(known.name(), "remote", 1);
        }
    }
}

/// Where the stream ends now.
async fn end(lease: &mut DedicatedRedis) -> Result<Position, RedisError> {
    let newest = Command::new("XREVRANGE").key(LOG_KEY).arg("+").arg("-").arg("COUNT").arg("1");
    let reply = lease.call(&newest, TIMEOUT).await?;
    Ok(list(&reply).first().and_then(entry).map_or(Position::START, |(position, _)| position))
}

/// The entries in an answer: `[[stream, [entry]]]`, or flat as a map is.
fn entries(reply: &Reply) -> Vec<(Position, Bytes)> {
    let found = match list(reply) {
        [Reply::List(stream)] => stream.get(1),
        flat => flat.get(1),
    };
    found.map(list).unwrap_or_default().iter().filter_map(entry).collect()
}

/// `[position, [field, message]]`.
fn entry(reply: &Reply) -> Option<(Position, Bytes)> {
    let [Reply::Bytes(position), fields] = list(reply) else { return None };
    let message = match list(fields) {
        [_, Reply::Bytes(message), ..] => message.clone(),
        _ => Bytes::new(),
    };
    Some((Position::parse(position)?, message))
}

fn list(reply: &Reply) -> &[Reply] {
    match reply {
        Reply::List(items) => items,
        Reply::Nil | Reply::Int(_) | Reply::Bytes(_) | Reply::Status(_) | Reply::Other(_) => &[],
    }
}

#[cfg(test)]
mod tests {
    //! The forms that an answer has.

    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn answers_of_both_protocols_are_read() {
        let fields = Reply::List(vec![text("m"), text("hello")]);
        let entry = Reply::List(vec![text("12-3"), fields]);
        let stream = vec![text("log"), Reply::List(vec![entry])];
        let expected = vec![(Position(12, 3), Bytes::from_static(b"hello"))];
        assert_eq!(entries(&Reply::List(stream.clone())), expected);
        assert_eq!(entries(&Reply::List(vec![Reply::List(stream)])), expected);
        assert_eq!(entries(&Reply::Nil), []);
        assert!(Position(12, 3) < Position(12, 10) && Position(9, 0) < Position(12, 3));
    }
}
