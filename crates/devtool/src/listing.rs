//! The files of a checkout: what git tracks or would track, and nothing that a build has left.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Folders that hold builds and running instances; only consulted outside a git checkout.
const GENERATED_FOLDERS: [&str; 3] = [".git", ".dev", "target"];

/// The files git tracks or would track, or everything when `root` is no checkout: paths from the
/// root, with forward slashes, in order.
///
/// # Errors
///
/// When git fails or a folder cannot be read.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths =
        if root.join(".git").exists() { listed_by_git(root)? } else { found_below(root)? };
    paths.sort();
    // A path in conflict is listed once per side.
    paths.dedup();
    // Git also lists what was deleted since the last commit.
    paths.retain(|path| root.join(path).exists());
    Ok(paths)
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
    Ok(listing.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn found_below(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
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
