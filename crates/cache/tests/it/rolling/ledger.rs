//! What was committed when, what was answered when, and which answers were not right.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::tail::BOUND;

/// A row as it was at some time: absent, or version and text.
type State = Option<(i64, String)>;

/// The changes of a row by version: when one was known to be committed, and what the row became.
type History = BTreeMap<i64, (Instant, Option<String>)>;

/// Changes and answers. They are judged at the end: a reader may know of a change before its writer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By key.
    changes: Mutex<HashMap<u64, History>>,
    answers: Mutex<Vec<(Instant, u64, State)>>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) changes: usize,
    pub(super) answers: usize,
    pub(super) wrong: usize,
    pub(super) stale: usize,
    /// The first answer that was not right.
    pub(super) first: Option<String>,
}

impl Ledger {
    /// A change is committed.
    pub(super) fn changed(&self, key: u64, version: i64, text: Option<String>) {
        self.changes.lock().entry(key).or_default().insert(version, (Instant::now(), text));
    }

    pub(super) fn read_begins(&self) -> Instant {
        Instant::now()
    }

    pub(super) fn answered(&self, began: Instant, key: u64, answer: State) {
        self.answers.lock().push((began, key, answer));
    }

    pub(super) fn judge(&self) -> Judged {
        let (changes, answers) = (self.changes.lock(), self.answers.lock());
        let mut judged = Judged {
            changes: changes.values().map(History::len).sum(),
            answers: answers.len(),
            wrong: 0,
            stale: 0,
            first: None,
        };
        for (began, key, answer) in answers.iter() {
            let history = &changes[key];
            // The newest change that the answer must contain.
            let due = history.iter().rfind(|(_, (committed, _))| *committed + BOUND < *began);
            let due = due.map_or(0, |(version, _)| *version);
            let (is_wrong, is_stale) = match answer {
                Some((version, text)) => {
                    let was = history.get(version).and_then(|(_, was)| was.as_ref());
                    (was != Some(text), *version < due)
                }
                // It was deleted by the change that is due, or by a later one.
                None => (false, history.range(due..).all(|(_, (_, text))| text.is_some())),
            };
            judged.wrong += usize::from(is_wrong);
            judged.stale += usize::from(is_stale);
            if (is_wrong || is_stale) && judged.first.is_none() {
                let known: Vec<_> = history.iter().rev().take(4).collect();
                judged.first = Some(format!("{answer:?} for {key}, due {due}, newest {known:?}"));
            }
        }
        judged
    }
}
