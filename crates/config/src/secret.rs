//! A value that never prints itself, and the files secrets are read from.

use std::fmt;
use std::io::Read;
use std::path::Path;

use crate::error::Problem;
use crate::layers::{Entry, Raw};

/// A secret: `Debug` and `Display` print `[redacted]`; [`Secret::expose`] gives the value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one place that sends or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The keys that hold secrets; each may be given as a file by adding `_file`.
pub(crate) const SECRET_KEYS: [&str; 4] =
    ["grpc.page_token_key", "postgres.replica_urls", "postgres.url", "redis.url"];

/// Largest secret file in bytes. Secrets are short; a longer file is the wrong file.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Replaces the path that an entry names by the content of that file.
pub(crate) fn read_secret_file(key: &str, entry: Entry) -> Result<Entry, Problem> {
    let path = match &entry.raw {
        Raw::Text(path) | Raw::Toml(toml::Value::String(path)) => Path::new(path),
        Raw::Toml(_) => {
            return Err(Problem::new(key, Some(entry.source), "expected the path of a file"));
        }
    };
    let read = || -> std::io::Result<String> {
        let mut content = String::new();
        let file = std::fs::File::open(path)?;
        file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut content)?;
        Ok(content)
    };
    let fail = |why: String| {
        let expected = format!("expected a file that holds the secret: {why}");
        let found = path.display().to_string();
        Problem::new(key, Some(entry.source.clone()), expected).with_found(&found)
    };
    let content = read().map_err(|error| fail(error.to_string()))?;
    if u64::try_from(content.len()).is_ok_and(|bytes| bytes > SECRET_FILE_BYTES_MAX) {
        return Err(fail(format!("it is longer than {SECRET_FILE_BYTES_MAX} bytes")));
    }
    // Editors and `echo` end a file with a line break that nobody means.
    let line = content.strip_suffix('\n').unwrap_or(&content);
    let secret = line.strip_suffix('\r').unwrap_or(line);
    Ok(Entry { raw: Raw::Text(secret.to_owned()), source: entry.source })
}
