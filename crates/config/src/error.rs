//! What is wrong with the settings, all of it at once.

use std::fmt;

use crate::source::Source;

/// Every problem found in the settings, in the order of the reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The problems; never empty.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.problems.len() == 1 { "problem" } else { "problems" };
        write!(f, "{} {noun} in the settings", self.problems.len())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One problem: which key, from where, what was expected. It never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, or the name of the flag or file when there is no key.
    pub key: String,
    /// The layer the value came from.
    pub source: Option<Source>,
    /// What would have been right.
    pub expected: String,
    /// What was there instead, unless it is a secret or missing.
    pub found: Option<String>,
}

impl Problem {
    /// A problem without a found value.
    pub(crate) fn new(key: &str, source: Option<Source>, expected: impl Into<String>) -> Self {
        Self { key: key.to_owned(), source, expected: expected.into(), found: None }
    }

    /// The same problem showing what was found, cut to a readable length.
    pub(crate) fn with_found(mut self, found: &str) -> Self {
        const SHOWN_CHARS_MAX: usize = 80;
        let mut shown: String = found.chars().take(SHOWN_CHARS_MAX).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        self.found = Some(shown);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        write!(f, ": {}", self.expected)?;
        match &self.found {
            Some(found) => write!(f, ", found {found}"),
            None => Ok(()),
        }
    }
}
