//! What is known to have been announced: by this process, or by others, in the log.
//!
//! It saves work and decides nothing by itself: before another's announcement is relied on, Redis is
//! asked whether it has it ([`ADOPT`](crate::l2::scripts::ADOPT)).

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::l2::remote::TOMBSTONE_TTL;

/// Announcements remembered; the oldest is forgotten for one more.
const REMEMBERED_MAX: usize = 65_536;

/// A run of marks: who announces, since his last synchronisation. Never used twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Chain(String);

impl Chain {
    pub(crate) fn fresh() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    pub(crate) fn named(text: &str) -> Option<Self> {
        let is_ours = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of its mark.
    pub(crate) fn mark_key(&self) -> String {
        ["cache-mark:", &self.0].concat()
    }
}

/// Where a change was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) version: i64,
    pub(crate) chain: Chain,
    /// The data sets that have it are those whose mark of the chain is as high.
    pub(crate) mark: u64,
}

/// The newest announcement of each key.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    by_key: HashMap<String, Known>,
    order: VecDeque<String>,
    /// When the database had another history the last time.
    lost_at: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    announced: Announced,
    /// It came so soon after a history was lost that it may be of that one: others learn of the loss
    /// later, and the log may be behind.
    is_doubtful: bool,
}

impl Memory {
    pub(crate) fn remember(&self, entry_key: &str, announced: Announced) {
        let mut remembered = self.0.lock();
        let is_doubtful = remembered.lost_at.is_some_and(|at| at.elapsed() <= TOMBSTONE_TTL);
        if let Some(known) = remembered.by_key.get_mut(entry_key) {
            if known.announced.version <= announced.version {
                *known = Known { announced, is_doubtful };
            }
            return;
        }
        if remembered.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.by_key.remove(&oldest);
        }
        remembered.order.push_back(entry_key.to_owned());
        remembered.by_key.insert(entry_key.to_owned(), Known { announced, is_doubtful });
    }

    /// Where this version of a key, or a newer one, was announced.
    pub(crate) fn of(&self, entry_key: &str, version: i64) -> Option<Announced> {
        let remembered = self.0.lock();
        let known = remembered.by_key.get(entry_key)?;
        (known.announced.version >= version).then(|| known.announced.clone())
    }

    /// The newest version of a key that was announced and is certainly of this history.
    pub(crate) fn committed_version_of(&self, entry_key: &str) -> Option<i64> {
        let remembered = self.0.lock();
        let known = remembered.by_key.get(entry_key).filter(|known| !known.is_doubtful)?;
        Some(known.announced.version)
    }

    /// Announcements that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().by_key.len()
    }

    pub(crate) fn max(&self) -> usize {
        REMEMBERED_MAX
    }

    pub(crate) fn clear(&self) {
        let mut remembered = self.0.lock();
        *remembered = Remembered { lost_at: remembered.lost_at, ..Remembered::default() };
    }

    /// The database has another history now: versions that were announced may never have been.
    pub(crate) fn lose_history(&self) {
        *self.0.lock() = Remembered { lost_at: Some(Instant::now()), ..Remembered::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_announcements_are_remembered() {
        let memory = Memory::default();
        let chain = Chain::fresh();
        let announced = |version, mark| Announced { version, chain: chain.clone(), mark };
        memory.remember("a", announced(5, 1));
        memory.remember("a", announced(4, 2));
        assert_eq!(memory.of("a", 5), Some(announced(5, 1)));
        assert_eq!((memory.of("a", 6), memory.of("b", 1)), (None, None));
        for key in 0..REMEMBERED_MAX {
            memory.remember(&key.to_string(), announced(1, 3));
        }
        assert_eq!(memory.of("a", 5), None, "the oldest is forgotten");
        assert_eq!(memory.len(), memory.max());
        assert!(memory.of("0", 1).is_some());
        assert_eq!(memory.committed_version_of("0"), Some(1));
        memory.lose_history();
        memory.remember("0", announced(7, 4));
        assert!(memory.of("0", 7).is_some());
        assert_eq!(memory.committed_version_of("0"), None, "it may be of the history before");
        assert_eq!(Chain::named(chain.as_str()), Some(chain));
        assert_eq!(Chain::named("x"), None);
    }
}
