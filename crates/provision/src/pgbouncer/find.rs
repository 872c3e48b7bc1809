//! Where pgbouncer comes from on this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::identity::RunAs;
use crate::ladder::{Located, NotFound, Rung, Search, climb};
use crate::{Program, StopSignal, apt, command};

const FIX: &str = "install it (Debian, Ubuntu: apt-get install pgbouncer; macOS: brew install \
                   pgbouncer), or set PGBOUNCER_BIN";

/// Packages that only matter to an installed service.
const APT_UNNEEDED: [&str; 5] =
    ["adduser", "debconf", "lsb-base", "postgresql-common", "postgresql-client-common"];

const PROGRAM: &str = "pgbouncer";

/// From this version on SIGTERM waits for the clients to leave, and SIGQUIT stops at once.
const QUIT_SINCE: (u32, u32) = (1, 23);

/// A pgbouncer that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgBouncerTools {
    /// The program.
    pub program: Program,
    /// Version, such as `1.18.0`.
    pub version: String,
    /// The signal that stops it without waiting for its clients.
    pub(super) stop_signal: StopSignal,
}

impl PgBouncerTools {
    /// The program `path`, if it runs here.
    ///
    /// # Errors
    ///
    /// The reason in one line.
    pub fn probe(path: &Path, libraries: Option<OsString>) -> Result<Self, String> {
        if let Some(user) = RunAs::for_servers()
            && !path.parent().is_none_or(|dir| user.reaches(dir))
        {
            return Err(format!("user {} cannot reach {}", user.name, path.display()));
        }
        let program = Program { path: path.to_path_buf(), libraries };
        let line = command::version_line(program.command())?;
        let (version, number) =
            parse_version(&line).ok_or_else(|| format!("cannot read version from {line:?}"))?;
        let stop_signal =
            if number >= QUIT_SINCE { StopSignal::Quit } else { StopSignal::Terminate };
        Ok(Self { program, version, stop_signal })
    }
}

/// Climbs the ladder for pgbouncer.
///
/// # Errors
///
/// [`NotFound`], naming the fix and every rung's reason.
pub fn find(search: &Search) -> Result<Located<PgBouncerTools>, NotFound> {
    climb(search, "pgbouncer", FIX, |rung| match rung {
        Rung::Explicit => match &search.explicit {
            Some(path) => PgBouncerTools::probe(path, None),
            None => Err("PGBOUNCER_BIN is not set".to_owned()),
        },
        Rung::Installed => installed(search),
        Rung::Cache => Cache::new(search, PROGRAM).first(probe_unpacked),
        Rung::Apt => {
            let cache = Cache::new(search, PROGRAM);
            let pick = |apt: &apt::Apt| apt.first_known(&[PROGRAM]);
            let unpack = |dir: &Path| apt::unpack(search, pick, &APT_UNNEEDED, dir);
            cache.fill("apt", unpack, probe_unpacked)?;
            cache.first(probe_unpacked)
        }
        Rung::Pip => Err("no wheel holds it".to_owned()),
    })
}

fn installed(search: &Search) -> Result<PgBouncerTools, String> {
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&search.path).collect();
    // An ordinary user's PATH does not always hold the directories of servers.
    dirs.extend(["/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin"].map(PathBuf::from));
    let found = dirs.iter().map(|dir| dir.join(PROGRAM)).find(|path| path.is_file());
    match found {
        Some(path) => PgBouncerTools::probe(&path, None),
        None => Err(format!("no {PROGRAM} on PATH")),
    }
}

/// The program somewhere below an unpacked package.
fn probe_unpacked(dir: &Path) -> Result<PgBouncerTools, String> {
    match crate::cache::dirs_with(dir, PROGRAM).first() {
        Some(bin) => PgBouncerTools::probe(&bin.join(PROGRAM), crate::cache::library_path(dir)),
        None => Err(format!("{} holds no {PROGRAM}", dir.display())),
    }
}

/// Reads `PgBouncer 1.18.0`.
fn parse_version(line: &str) -> Option<(String, (u32, u32))> {
    let version = line.strip_prefix("PgBouncer ")?.split_whitespace().next()?;
    let mut numbers = version.split('.');
    let number = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((version.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        let cases = [
            ("PgBouncer 1.18.0", Some(("1.18.0", (1, 18)))),
            ("PgBouncer 1.25.1", Some(("1.25.1", (1, 25)))),
            ("pgbouncer", None),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|(text, number)| (text.to_owned(), number));
            assert_eq!(parse_version(line), expected, "{line}");
        }
        assert!((1, 18) < QUIT_SINCE && (1, 25) > QUIT_SINCE);
    }
}
