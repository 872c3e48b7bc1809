//! The text files a rule may look at, read once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Larger files are data, not text that somebody wrote.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Folders that hold builds and running instances; only consulted outside a git checkout.
const GENERATED_FOLDERS: [&str; 3] = [".git", ".dev", "target"];

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
        let mut paths =
            if root.join(".git").exists() { listed_by_git(root)? } else { found_below(root)? };
        paths.sort();
        // Git also lists what was deleted since the last commit.
        paths.retain(|path| root.join(path).exists());
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

fn listed_by_git(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    ensure!(
        output.status.success(),
        "git ls-files failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let listing = String::from_utf8(output.stdout).context("read the output of git ls-files")?;
    let mut paths: Vec<String> =
        listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect();
    // A path in conflict is listed once per side.
    paths.sort();
    paths.dedup();
    Ok(paths)
}

fn found_below(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", folder.display()))?;
            let kind = entry.file_type().context("tell files from folders")?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() && !GENERATED_FOLDERS.contains(&name.as_str()) {
                folders.push(entry.path());
            } else if kind.is_file() {
                let path = entry.path();
                let relative = path.strip_prefix(root).context("stay below the root")?;
                found.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    Ok(found)
}
