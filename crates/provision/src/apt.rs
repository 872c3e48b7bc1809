//! Packages of Debian and its children, downloaded and unpacked but never installed: no root is
//! needed, no service starts, and the system's state stays as it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::{DOWNLOAD_TIMEOUT, Search, command};

/// How long a question to the package lists may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// Downloads what installing a package would add to this system, and unpacks it into `dir`.
///
/// `pick` chooses the package. The system's own package lists are used first; when they are missing
/// or too old to download from, fresh ones are fetched into our cache.
pub(crate) fn unpack(
    search: &Search,
    pick: impl Fn(&Apt) -> Result<String, String>,
    unneeded: &[&str],
    dir: &Path,
) -> Result<(), String> {
    for program in ["apt-get", "dpkg-deb"] {
        let mut dirs = std::env::split_paths(&search.path);
        if !dirs.any(|dir| dir.join(program).is_file()) {
            return Err(format!("no {program} on PATH"));
        }
    }
    let system = Apt { options: Vec::new() };
    let first = match fetch(search, &system, &pick, unneeded, dir) {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    search.say("fetching fresh package lists");
    let fresh = Apt::with_own_lists(&search.cache.join("apt-lists"))
        .map_err(|reason| format!("{first}; {reason}"))?;
    fetch(search, &fresh, &pick, unneeded, dir)
}

/// apt-get with one set of package lists.
#[derive(Debug)]
pub(crate) struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// Lists of our own, updated now. The system's lists, which only root may change, are not used.
    fn with_own_lists(root: &Path) -> Result<Self, String> {
        let (lists, cache) = (root.join("lists"), root.join("cache"));
        for dir in [lists.join("partial"), cache.join("archives/partial")] {
            std::fs::create_dir_all(&dir)
                .map_err(|error| format!("create {}: {error}", dir.display()))?;
        }
        let apt = Self {
            options: vec![
                format!("Dir::State::Lists={}", lists.display()),
                format!("Dir::Cache={}", cache.display()),
                "Debug::NoLocking=1".to_owned(),
            ],
        };
        apt.run("apt-get", &["update"], None, DOWNLOAD_TIMEOUT)?;
        Ok(apt)
    }

    /// The package whose name `rank` gives the highest number.
    pub(crate) fn newest(&self, rank: impl Fn(&str) -> Option<u32>) -> Result<String, String> {
        self.run("apt-cache", &["pkgnames"], None, ASK_TIMEOUT)?
            .into_iter()
            .filter_map(|name| Some((rank(&name)?, name)))
            .max()
            .map(|(_, name)| name)
            .ok_or_else(|| "the package lists do not hold it".to_owned())
    }

    /// The first of `names` that can be installed.
    pub(crate) fn first_known(&self, names: &[&str]) -> Result<String, String> {
        names
            .iter()
            .find(|name| {
                self.run("apt-cache", &["show", "--no-all-versions", name], None, ASK_TIMEOUT)
                    .is_ok()
            })
            .map(|name| (*name).to_owned())
            .ok_or_else(|| "the package lists do not hold it".to_owned())
    }

    /// The packages that installing `package` would add.
    fn missing(&self, package: &str) -> Result<Vec<String>, String> {
        let args = ["--simulate", "--no-install-recommends", "install", package];
        let lines = self.run("apt-get", &args, None, ASK_TIMEOUT)?;
        Ok(lines.iter().filter_map(|line| added(line)).map(str::to_owned).collect())
    }

    fn run(
        &self,
        program: &str,
        args: &[&str],
        dir: Option<&Path>,
        timeout: Duration,
    ) -> Result<Vec<String>, String> {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        for option in ["Acquire::Retries=1", "Acquire::http::Timeout=15"] {
            command.args(["-o", option]);
        }
        if nix::unistd::geteuid().is_root() {
            // The download user of apt may not reach the directory that we download to.
            command.args(["-o", "APT::Sandbox::User=root"]);
        }
        for option in &self.options {
            command.args(["-o", option]);
        }
        command.args(args);
        if let Some(dir) = dir {
            command.current_dir(dir);
        }
        command::run(command, timeout).map_err(|error| command::describe(&error))
    }
}

fn fetch(
    search: &Search,
    apt: &Apt,
    pick: impl Fn(&Apt) -> Result<String, String>,
    unneeded: &[&str],
    dir: &Path,
) -> Result<(), String> {
    let package = pick(apt)?;
    let mut packages = apt.missing(&package)?;
    packages.retain(|name| !unneeded.iter().any(|unneeded| name.starts_with(unneeded)));
    if packages.is_empty() {
        return Err(format!("{package} is installed already"));
    }
    search.say(&format!("downloading {}", packages.join(" ")));
    let io = |error: std::io::Error| format!("unpack {package}: {error}");
    let debs = dir.join("debs");
    std::fs::create_dir_all(&debs).map_err(io)?;
    let mut args = vec!["download"];
    args.extend(packages.iter().map(String::as_str));
    apt.run("apt-get", &args, Some(&debs), DOWNLOAD_TIMEOUT)?;
    for deb in std::fs::read_dir(&debs).map_err(io)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("-x").arg(deb.map_err(io)?.path()).arg(dir);
        command::run(unpack, DOWNLOAD_TIMEOUT).map_err(|error| command::describe(&error))?;
    }
    std::fs::remove_dir_all(&debs).map_err(io)
}

/// Reads `Inst redis-tools (5:7.0.15 Debian:12 [amd64])`. A package in an older version, written as
/// `Inst libc6 [2.36] (2.37 ...)`, is left alone: what is installed works.
fn added(line: &str) -> Option<&str> {
    let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
    rest.starts_with('(').then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packages_that_are_not_there_yet_are_fetched() {
        let cases = [
            ("Inst liblzf1 (3.6-3 Debian:12.14/oldstable [amd64])", Some("liblzf1")),
            ("Inst libc6 [2.36-9] (2.36-10 Debian:12.14/oldstable [amd64])", None),
            ("Conf liblzf1 (3.6-3 Debian:12.14/oldstable [amd64])", None),
            ("Reading package lists...", None),
        ];
        for (line, expected) in cases {
            assert_eq!(added(line), expected, "{line}");
        }
    }
}
