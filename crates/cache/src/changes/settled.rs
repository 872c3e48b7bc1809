//! Up to which version every change has been applied, for callers who say what they have seen.
//!
//! A caller names the highest version that he has seen, and wants to be shown nothing older, of any
//! row. Versions are given out in the order of one sequence, but committed in any: that the change
//! with version 20 was applied says nothing about version 10, which he may have seen as well, if its
//! transaction was open for longer. So what counts is not which versions were applied. A version is
//! *settled* when no transaction is open that could have drawn it or a lower one, and the changes
//! that a question sent after that has found have been applied.
//!
//! For that a look ([`Look`]) finds the newest version that was given out and who is open. When none
//! of those is open any more, all versions up to there are committed or never will be. It is looked
//! only if somebody has asked for a version that is not settled.

use parking_lot::Mutex;

use super::outbox::Look;

/// Looks whose transactions are not over that are kept; the newest makes room for one more.
const EARLIER_MAX: usize = 16;
/// Versions that are remembered because somebody asked for them.
const ASKED_MAX: usize = 64;

/// How far versions are settled. The tail writes it.
#[derive(Debug, Default)]
pub(crate) struct Settled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The era in which it was found out. In another one, nothing is settled.
    era: u64,
    version: i64,
    /// What was seen when others were open, with those of them that still are.
    earlier: Vec<Look>,
    /// Not settled, and asked for since the last look.
    asked: Vec<i64>,
    /// Asked for when they had not been given out.
    unknown: Vec<i64>,
}

/// What is known of a version that somebody has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All changes up to it have been applied in this era.
    Settled { era: u64 },
    /// Some may not have been.
    Open,
    /// It had not been given out when it was last asked for.
    Doubtful,
}

/// Versions that were asked for before a look began.
#[derive(Debug)]
pub(crate) struct Asked(Vec<i64>);

impl Settled {
    /// What is known of a version. It must be asked before the view of a read is taken.
    ///
    /// If it is not settled the next round of the tail will look.
    pub(crate) fn standing(&self, version: i64) -> Standing {
        let mut state = self.0.lock();
        if version <= state.version {
            return Standing::Settled { era: state.era };
        }
        add(&mut state.asked, version);
        if state.unknown.contains(&version) { Standing::Doubtful } else { Standing::Open }
    }

    /// What was asked for since the last time, if a look would tell something.
    pub(crate) fn take_asked(&self) -> Option<Asked> {
        let asked = std::mem::take(&mut self.0.lock().asked);
        (!asked.is_empty()).then_some(Asked(asked))
    }

    /// To be called with a look after the changes were applied that a later question has found, all
    /// of it within one era.
    pub(crate) fn have_applied(&self, era: u64, look: Look, asked: &Asked) {
        let mut state = self.0.lock();
        if state.era != era {
            *state = State { era, asked: std::mem::take(&mut state.asked), ..State::default() };
        }
        state.unknown.retain(|version| *version > look.newest);
        for version in asked.0.iter().filter(|version| **version > look.newest) {
            add(&mut state.unknown, *version);
        }
        // One that is prepared may be any of those that were open before.
        if look.has_prepared {
            return;
        }
        for earlier in &mut state.earlier {
            earlier.open.retain(|transaction| look.open.contains(transaction));
        }
        if state.earlier.len() >= EARLIER_MAX {
            state.earlier.pop();
        }
        state.earlier.push(look);
        let over = state.earlier.iter().filter(|look| look.open.is_empty());
        let newest = over.map(|look| look.newest).max().unwrap_or(0);
        state.version = newest.max(state.version);
        state.earlier.retain(|look| !look.open.is_empty());
    }

    /// Another history, or changes that nobody can name: versions say nothing until it was looked
    /// again. To be called before an era begins.
    pub(crate) fn restart(&self) {
        *self.0.lock() = State::default();
    }
}

/// Adds a version; one more than may be remembered replaces the first.
fn add(versions: &mut Vec<i64>, version: i64) {
    if versions.contains(&version) {
        return;
    }
    if versions.len() >= ASKED_MAX {
        versions.remove(0);
    }
    versions.push(version);
}

#[cfg(test)]
mod tests;
