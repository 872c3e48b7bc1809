//! Prepared statements of one connection, the least recently used dropped first.

use std::collections::HashMap;

use tokio_postgres::Statement;

/// Prepared statements kept per connection. Each costs the server some kilobytes.
const STATEMENTS_MAX: usize = 256;

/// A bounded cache from text to prepared statement. It lives and dies with its connection.
#[derive(Default)]
pub(crate) struct Statements {
    entries: HashMap<Box<str>, Entry>,
    clock: u64,
}

struct Entry {
    statement: Statement,
    used_at: u64,
}

impl Statements {
    /// The statement prepared for `text`.
    pub(crate) fn get(&mut self, text: &str) -> Option<Statement> {
        self.clock += 1;
        let entry = self.entries.get_mut(text)?;
        entry.used_at = self.clock;
        Some(entry.statement.clone())
    }

    /// Keeps a statement; one dropped for it is closed on the server by the driver.
    pub(crate) fn insert(&mut self, text: &str, statement: Statement) {
        if self.entries.len() >= STATEMENTS_MAX {
            // A scan, because it is rare: only more distinct texts than places lead here.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at);
            if let Some(text) = oldest.map(|(text, _)| text.clone()) {
                self.entries.remove(&text);
            }
        }
        self.clock += 1;
        self.entries.insert(
            text.into(),
            Entry {
                statement,
                used_at: self.clock,
            },
        );
    }

    /// Forgets a statement that the server no longer accepts.
    pub(crate) fn remove(&mut self, text: &str) {
        self.entries.remove(text);
    }
}
