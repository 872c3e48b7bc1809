//! What is known to have been announced: by this process, or by others, in the log.
//!
//! It saves work and decides nothing by itself: before another's announcement is relied on, Redis is
//! asked whether it has it ([`ADOPT`](crate::l2::scripts::ADOPT)).

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

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
    by_key: HashMap<String, Announced>,
    order: VecDeque<String>,
}

impl Memory {
    pub(crate) fn remember(&self, entry_key: &str, announced: Announced) {
        let mut remembered = self.0.lock();
        if let Some(known) = remembered.by_key.get_mut(entry_key) {
            if known.version <= announced.version {
                *known = announced;
            }
            return;
        }
        if remembered.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.by_key.remove(&oldest);
        }
        remembered.order.push_back(entry_key.to_owned());
        remembered.by_key.insert(entry_key.to_owned(), announced);
    }

    /// Where this version of a key, or a newer one, was announced.
    pub(crate) fn of(&self, entry_key: &str, version: i64) -> Option<Announced> {
        let remembered = self.0.lock();
        remembered.by_key.get(entry_key).filter(|known| known.version >= version).cloned()
    }

    pub(crate) fn clear(&self) {
        *self.0.lock() = Remembered::default();
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
        assert!(memory.of("0", 1).is_some());
        assert_eq!(Chain::named(chain.as_str()), Some(chain));
        assert_eq!(Chain::named("x"), None);
    }
}
