//! What one connection knows about its statements, the least recently used forgotten first.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// Statements kept per connection. A prepared one costs the server some kilobytes.
const STATEMENTS_MAX: usize = 256;

/// How to run a statement.
#[derive(Clone)]
pub(crate) enum Prepared {
    /// By the name under which the server keeps it.
    Named(Statement),
    /// By its text, with the types of its parameters: the server plans it anew and keeps nothing.
    Unnamed(Arc<[Type]>),
}

impl Prepared {
    /// The types of its parameters.
    pub(crate) fn types(&self) -> Arc<[Type]> {
        match self {
            Self::Named(statement) => statement.params().into(),
            Self::Unnamed(types) => Arc::clone(types),
        }
    }

    /// Whether parameters of these types fit.
    pub(crate) fn takes(&self, types: &[Type]) -> bool {
        match self {
            Self::Named(statement) => statement.params() == types,
            Self::Unnamed(own) => **own == *types,
        }
    }
}

/// A bounded cache from text to how to run it. It lives and dies with its connection.
#[derive(Default)]
pub(crate) struct Statements {
    entries: HashMap<Box<str>, Entry>,
    clock: u64,
}

struct Entry {
    prepared: Prepared,
    used_at: u64,
}

impl Statements {
    /// How to run `text`.
    pub(crate) fn get(&mut self, text: &str) -> Option<Prepared> {
        self.clock += 1;
        let entry = self.entries.get_mut(text)?;
        entry.used_at = self.clock;
        Some(entry.prepared.clone())
    }

    /// Keeps a statement; a prepared one dropped for it is closed on the server by the driver.
    pub(crate) fn insert(&mut self, text: &str, prepared: Prepared) {
        if self.entries.len() >= STATEMENTS_MAX {
            // A scan, because it is rare: only more distinct texts than places lead here.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used_at);
            if let Some(text) = oldest.map(|(text, _)| text.clone()) {
                self.entries.remove(&text);
            }
        }
        self.clock += 1;
        self.entries.insert(text.into(), Entry { prepared, used_at: self.clock });
    }

    /// Forgets a statement that the server no longer accepts.
    pub(crate) fn remove(&mut self, text: &str) {
        self.entries.remove(text);
    }
}

/// The parameters and columns whose type is not built in, each with its kind and the type's name.
pub(crate) fn custom_types(
    statement: &Statement,
) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let parameters = statement.params().iter().map(|kind| ("parameter", kind));
    let columns = statement.columns().iter().map(|column| ("column", column.type_()));
    parameters
        .chain(columns)
        .filter(|(_, kind)| Type::from_oid(kind.oid()).is_none())
        .map(|(place, kind)| (place, format!("{}.{}", kind.schema(), kind.name())))
}
