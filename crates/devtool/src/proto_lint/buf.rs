//! Finding `buf`: installed, in our cache, or fetched as the npm package that
//! `deploy/buf.lock` pins by version and hash.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha512};

use crate::say;
use crate::workspace::Workspace;

/// What to do when nothing else has helped.
const FIX: &str =
    "install buf (https://buf.build/docs/cli/installation), or npm, which can fetch it";

/// What `deploy/buf.lock` says.
#[derive(Debug, Deserialize)]
struct Lock {
    version: String,
    /// The integrity of each platform's package, as npm writes it.
    npm: std::collections::BTreeMap<String, String>,
}

/// The program to run.
///
/// # Errors
///
/// When it is nowhere to be had; the message names the fix.
pub(super) fn locate(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    if let Some(installed) = on_path("buf") {
        return Ok(installed);
    }
    let path = workspace.root.join("deploy/buf.lock");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let lock: Lock = toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let platform = platform();
    let home = cache().with_context(|| format!("no cache folder: set HOME, or {FIX}"))?;
    let folder = home.join("buf").join(&lock.version).join(&platform);
    let program = folder.join("package/bin/buf");
    if program.exists() {
        return Ok(program);
    }
    let Some(integrity) = lock.npm.get(&platform) else {
        bail!("no package of buf is pinned for {platform}: {FIX}");
    };
    ensure!(on_path("npm").is_some(), "buf is not installed: {FIX}");
    fetch(&lock.version, &platform, integrity, &folder)?;
    Ok(program)
}

/// Unpacks an archive with the system's `tar`, which knows every compression in use here.
pub(super) fn unpack(archive: &Path, into: &Path) -> anyhow::Result<()> {
    let output = Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(into)
        .output()
        .context("run tar")?;
    ensure!(
        output.status.success(),
        "unpack {}: {}",
        archive.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Downloads beside the cache and moves into it at the end, so that the cache holds whole,
/// checked tools only, also when two of us fetch at once.
fn fetch(version: &str, platform: &str, integrity: &str, folder: &Path) -> anyhow::Result<()> {
    let parent = folder.parent().context("the cache folder has a parent")?;
    let scratch = parent.join(format!(".{platform}.{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    let package = format!("@bufbuild/buf-{platform}@{version}");
    say::warn(&format!("fetching {package}"));
    let moved = download(&package, integrity, &scratch).and_then(|()| {
        match fs::rename(&scratch, folder) {
            // Somebody else was faster, with the same checked package.
            Err(_) if folder.exists() => Ok(()),
            renamed => renamed.with_context(|| format!("move buf to {}", folder.display())),
        }
    });
    if scratch.exists() {
        fs::remove_dir_all(&scratch).with_context(|| format!("remove {}", scratch.display()))?;
    }
    moved
}

fn download(package: &str, integrity: &str, scratch: &Path) -> anyhow::Result<()> {
    let packed = Command::new("npm")
        .args(["pack", "--silent", package])
        .current_dir(scratch)
        .output()
        .context("run npm pack")?;
    ensure!(
        packed.status.success(),
        "npm pack {package} failed ({}): {FIX}",
        String::from_utf8_lossy(&packed.stderr).lines().last().unwrap_or("it says nothing")
    );
    let archive = fs::read_dir(scratch)
        .context("list what npm has fetched")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .with_context(|| format!("npm pack {package} left no package"))?;
    verify(&fs::read(&archive).context("read the package")?, integrity)
        .with_context(|| format!("refuse {package}"))?;
    unpack(&archive, scratch)?;
    fs::remove_file(&archive).context("remove the archive")
}

/// Compares with a Subresource Integrity string, the form npm writes hashes in.
fn verify(bytes: &[u8], integrity: &str) -> anyhow::Result<()> {
    let actual = format!("sha512-{}", STANDARD.encode(Sha512::digest(bytes)));
    ensure!(actual == integrity, "its hash is {actual}, deploy/buf.lock expects {integrity}");
    Ok(())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|found| found.is_file())
}

fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty());
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
    Some(base.map(PathBuf::from).or_else(home)?.join("forebay/tools"))
}

/// The platform as buf's packages call it.
fn platform() -> String {
    let os = if env::consts::OS == "macos" { "darwin" } else { env::consts::OS };
    let arch = match (os, env::consts::ARCH) {
        (_, "x86_64") => "x64",
        ("darwin", "aarch64") => "arm64",
        (_, arch) => arch,
    };
    format!("{os}-{arch}")
}

#[cfg(test)]
mod tests {
    use super::{STANDARD, Sha512, verify};
    use base64::Engine as _;
    use sha2::Digest as _;

    #[test]
    fn a_package_with_another_hash_is_refused() {
        let pinned = format!("sha512-{}", STANDARD.encode(Sha512::digest(b"package")));
        verify(b"package", &pinned).unwrap();
        let refused = verify(b"packagf", &pinned).unwrap_err().to_string();
        assert!(refused.contains(&pinned), "{refused}");
    }
}
