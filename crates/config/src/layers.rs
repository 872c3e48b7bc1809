//! The layers laid over each other: for every known key the winning value and its source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::{Table, Value};

use crate::error::Problem;
use crate::secret::{SECRET_KEYS, read_secret_file};
use crate::source::Source;
use crate::suggest::nearest;

/// A value as its layer gave it.
#[derive(Debug, Clone)]
pub(crate) enum Raw {
    /// From the environment or a flag: text that the setting's type must make sense of.
    Text(String),
    /// From a file, where TOML already gave it a type.
    Toml(Value),
}

/// The value in force for one key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// One value that a layer gives to a key.
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) entry: Entry,
}

/// All layers so far, and what was wrong in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layers {
    entries: BTreeMap<String, Entry>,
    known: BTreeSet<String>,
    services: BTreeSet<String>,
    pub(crate) problems: Vec<Problem>,
}

impl Layers {
    /// The lowest layer. Its keys are the keys that exist.
    pub(crate) fn of_defaults(text: &str, service: &str) -> Self {
        let mut layers = Self::default();
        let table = layers.parse(text, &Source::Default);
        for (name, value) in &table {
            match value {
                Value::Table(services) if name == "service" => {
                    layers.services.extend(services.keys().cloned());
                }
                _ => leaves(name, value, &mut |key, _| _ = layers.known.insert(key.to_owned())),
            }
        }
        layers.services.insert(service.to_owned());
        layers.lay_table(table, service, &Source::Default);
        layers
    }

    /// Lays a settings file over what is there.
    pub(crate) fn lay_file(&mut self, path: &Path, service: &str) {
        let source = Source::File(path.to_path_buf().into());
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let table = self.parse(&text, &source);
                self.lay_table(table, service, &source);
            }
            Err(error) => {
                let expected = format!("expected a readable settings file: {error}");
                self.problems.push(Problem::new("--config", Some(source), expected));
            }
        }
    }

    /// Lays values of one layer over what is there. Of a secret and its `_file`, one
    /// layer may give only one: which of them was meant cannot be told.
    pub(crate) fn lay(&mut self, assignments: Vec<Assignment>) {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        for Assignment { key, entry } in assignments {
            let Some(base) = self.base_key(&key) else {
                self.unknown(&key, entry.source);
                continue;
            };
            if given.insert(base.clone(), key.clone()).is_some_and(|other| other != key) {
                let expected = format!("expected either {base} or {base}_file, not both");
                self.problems.push(Problem::new(&base, Some(entry.source), expected));
                continue;
            }
            let entry = if base == key { Ok(entry) } else { read_secret_file(&key, entry) };
            match entry {
                Ok(entry) => _ = self.entries.insert(base, entry),
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    /// The value in force.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The keys that exist.
    pub(crate) fn known(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str)
    }

    fn parse(&mut self, text: &str, source: &Source) -> Table {
        text.parse::<Table>().unwrap_or_else(|error| {
            // Only the message and the line: the library's own rendering quotes the
            // line, and the line may hold a password.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let expected = format!("expected TOML: {} in line {line}", error.message());
            self.problems.push(Problem::new("syntax", Some(source.clone()), expected));
            Table::new()
        })
    }

    fn lay_table(&mut self, mut table: Table, service: &str, source: &Source) {
        let overlays = table.remove("service");
        let assignments = self.assignments(&table, source);
        self.lay(assignments);
        match overlays {
            None => {}
            Some(Value::Table(overlays)) => {
                for (name, overlay) in overlays {
                    self.lay_overlay(&name, overlay, name == service, source);
                }
            }
            Some(_) => {
                let expected = "expected sections [service.NAME]";
                self.problems.push(Problem::new("service", Some(source.clone()), expected));
            }
        }
    }

    /// Lays one `[service.NAME]`. Those of other services are checked for unknown keys
    /// only, so that a slip in a shared file is found by whichever service starts first.
    fn lay_overlay(&mut self, name: &str, overlay: Value, ours: bool, source: &Source) {
        let key = format!("service.{name}");
        if !self.services.contains(name) {
            let mut expected = "expected the name of a service".to_owned();
            if let Some(near) = nearest(name, self.services.iter().map(String::as_str)) {
                expected.push_str(&format!("; did you mean {near}?"));
            }
            self.problems.push(Problem::new(&key, Some(source.clone()), expected));
            return;
        }
        let Value::Table(overlay) = overlay else {
            self.problems.push(Problem::new(&key, Some(source.clone()), "expected a section"));
            return;
        };
        let assignments = self.assignments(&overlay, source);
        if ours {
            self.lay(assignments);
        } else {
            for Assignment { key, entry } in assignments {
                if self.base_key(&key).is_none() {
                    self.unknown(&key, entry.source);
                }
            }
        }
    }

    fn assignments(&self, table: &Table, source: &Source) -> Vec<Assignment> {
        let mut assignments = Vec::new();
        for (name, value) in table {
            leaves(name, value, &mut |key, value| {
                let entry = Entry { raw: Raw::Toml(value.clone()), source: source.clone() };
                assignments.push(Assignment { key: key.to_owned(), entry });
            });
        }
        assignments
    }

    /// The key itself when it exists, or the secret that a `_file` key stands for.
    fn base_key(&self, key: &str) -> Option<String> {
        if self.known.contains(key) {
            return Some(key.to_owned());
        }
        let base = key.strip_suffix("_file")?;
        SECRET_KEYS.contains(&base).then(|| base.to_owned())
    }

    fn unknown(&mut self, key: &str, source: Source) {
        let inside = format!("{key}.");
        let expected = if self.known.iter().any(|known| known.starts_with(&inside)) {
            format!("expected a section with keys of its own, such as {inside}…")
        } else {
            match nearest(key, self.known()) {
                Some(near) => format!("there is no such setting; did you mean {near}?"),
                None => "there is no such setting; --print-defaults lists them all".to_owned(),
            }
        };
        self.problems.push(Problem::new(key, Some(source), expected));
    }
}

/// Calls `found` for every value below `value` that is not a table.
fn leaves(key: &str, value: &Value, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                leaves(&format!("{key}.{name}"), value, found);
            }
        }
        _ => found(key, value),
    }
}
