//! One setting in force, as shown to an operator.

use std::fmt;

use crate::source::Source;

/// One setting in force: what `--print-config` shows and the operators' service reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its key, such as `cache.token.ttl`.
    pub key: String,
    /// Its value as TOML; a secret is redacted.
    pub value: String,
    /// The layer that gave the value.
    pub source: Source,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  # {}", self.key, self.value, self.source)
    }
}
