//! The text files a rule may look at, read once.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::listing;

/// Larger files are data, not text that somebody wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Every text file below a root that git would commit.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    /// The path of every file, those included that are not text.
    paths: Vec<String>,
}

/// One file: its path from the root, with forward slashes, and what it says.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    /// Reads the files git tracks or would track, or everything when `root` is no checkout.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let paths = listing::files(root)?;
        let mut files = Vec::with_capacity(paths.len());
        for path in &paths {
            let absolute = root.join(path);
            // Somebody may delete a file while it is looked at.
            let Ok(metadata) = fs::metadata(&absolute) else {
                continue;
            };
            if !metadata.is_file() || metadata.len() > TEXT_BYTES_MAX {
                continue;
            }
            let bytes =
                fs::read(&absolute).with_context(|| format!("read {}", absolute.display()))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path: path.clone(), text });
            }
        }
        Ok(Self { files, paths })
    }

    /// Whether `path` is a file or a folder of the tree; the root is the empty path.
    pub(super) fn holds(&self, path: &str) -> bool {
        let below = |file: &str| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        path.is_empty() || self.paths.iter().any(|file| file == path || below(file))
    }

    pub(super) fn get(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Rust that somebody wrote: generated code keeps its own style.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files
            .iter()
            .filter(|file| file.path.ends_with(".rs") && !file.path.contains("/src/gen/"))
    }
}

impl File {
    /// The name without its folders.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// The line, from 1, that holds the byte at `offset`.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        line_at(&self.text, offset)
    }
}

/// The line, from 1, that holds the byte at `offset` of `text`.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    1 + text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count()
}
