//! The proofs of a crate: `tests/proofs.toml`, as it is written there.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use toml::Spanned;

use crate::listing;

/// Where a crate keeps its proofs, from its folder.
pub(crate) const FILE: &str = "tests/proofs.toml";

/// A test that takes longer than this hangs, unless its proof names another bound. The slowest
/// take half of it on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

/// The proofs of one crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Book {
    /// Folder of the crate from the root, such as `crates/postgres`.
    pub(crate) folder: String,
    /// In the order of the file.
    pub(crate) proofs: Vec<Proof>,
}

/// One guarantee, the test that holds it, and the mechanism without which the test must fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The line of the file on which it is written.
    pub(crate) line: usize,
    /// What callers may rely on.
    pub(crate) guarantee: String,
    /// The test's path, as `cargo test` prints it.
    pub(crate) test: String,
    /// The program that holds the test.
    pub(crate) target: Target,
    /// Programs of the product that the test starts, such as `token-server`: the mechanism is off in
    /// them too.
    pub(crate) starts: Vec<String>,
    /// What is switched off, in words.
    pub(crate) mechanism: String,
    /// What switches it off.
    pub(crate) edits: Vec<Edit>,
    /// A part of what the failing test prints; with `hangs` it may be empty.
    pub(crate) says: String,
    /// Without the mechanism the test does not end.
    pub(crate) hangs: bool,
    /// How long the test may take.
    pub(crate) bound: Duration,
}

/// The program that holds a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Target {
    /// The integration tests, `tests/it`.
    It,
    /// Integration tests that need a process of their own, `tests/alone`.
    Alone,
    /// The system under faults, every read judged, `tests/history`.
    History,
    /// The unit tests of the library.
    Lib,
}

/// A place in a source file and what to put there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// The file, from the folder of the crate; the mechanism may live in a crate below.
    pub(crate) file: String,
    /// Text that occurs there once.
    pub(crate) find: String,
    /// What stands there instead while the mechanism is off.
    pub(crate) replace: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    proof: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    guarantee: String,
    test: Spanned<String>,
    target: Target,
    #[serde(default)]
    starts: Vec<String>,
    mechanism: String,
    file: String,
    find: String,
    replace: String,
    #[serde(default)]
    also: Vec<Edit>,
    #[serde(default)]
    says: String,
    #[serde(default)]
    hangs: bool,
    bound_s: Option<u64>,
}

impl Book {
    /// Every book of the checkout at `root`, by folder.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is not what it should be.
    pub(crate) fn all(root: &Path) -> anyhow::Result<Vec<Self>> {
        let mut books = Vec::new();
        for path in listing::files(root)? {
            if let Some(folder) = folder_of(&path) {
                let text = std::fs::read_to_string(root.join(&path))
                    .with_context(|| format!("read {path}"))?;
                let proofs = parse(&text).with_context(|| format!("parse {path}"))?;
                books.push(Self { folder: folder.to_owned(), proofs });
            }
        }
        Ok(books)
    }

    /// The name of the crate's folder, such as `postgres`.
    pub(crate) fn name(&self) -> &str {
        self.folder.rsplit('/').next().unwrap_or(&self.folder)
    }

    /// The path from the root that `file` means in this crate; `None` outside of the root.
    pub(crate) fn path_of(&self, file: &str) -> Option<String> {
        let mut path: Vec<&str> = Vec::new();
        for part in self.folder.split('/').chain(file.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(path.pop()?),
                name => path.push(name),
            }
        }
        Some(path.join("/"))
    }
}

impl Target {
    /// As the file spells it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::It => "it",
            Self::Alone => "alone",
            Self::History => "history",
            Self::Lib => "lib",
        }
    }
}

/// The folder of the crate whose proofs are at `path`.
pub(crate) fn folder_of(path: &str) -> Option<&str> {
    let folder = path.strip_suffix(FILE)?.strip_suffix('/')?;
    folder.starts_with("crates/").then_some(folder)
}

/// What a `proofs.toml` says.
///
/// # Errors
///
/// When it is not TOML, or has a key too many or too few; the error names the line.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Proof>> {
    let written: Written = toml::from_str(text)?;
    Ok(written.proof.into_iter().map(|entry| entry.read(text)).collect())
}

impl Entry {
    fn read(self, text: &str) -> Proof {
        let before = &text.as_bytes()[..self.test.span().start];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let first = Edit { file: self.file, find: self.find, replace: self.replace };
        Proof {
            line,
            guarantee: self.guarantee,
            test: self.test.into_inner(),
            target: self.target,
            starts: self.starts,
            mechanism: self.mechanism,
            edits: std::iter::once(first).chain(self.also).collect(),
            says: self.says,
            hangs: self.hangs,
            bound: self.bound_s.map_or(BOUND, Duration::from_secs),
        }
    }
}
