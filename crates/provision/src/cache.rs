//! Our cache of unpacked tools: filled by one process at a time, complete or absent.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::Search;
use crate::identity::RunAs;

/// The cache of one tool.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

/// Where unpacked tools are kept: `FOREBAY_CACHE`, else the user's cache directory. As root a
/// directory that the servers' user can reach is taken.
pub(crate) fn root() -> PathBuf {
    if let Some(dir) = std::env::var_os("FOREBAY_CACHE") {
        return PathBuf::from(dir);
    }
    let user = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .filter(|dir| dir.is_absolute() && dir.parent().is_some_and(Path::exists));
    match (user, RunAs::for_servers()) {
        (Some(dir), None) => dir.join("forebay/tools"),
        (Some(dir), Some(user)) if user.reaches(&dir) => dir.join("forebay/tools"),
        (_, Some(_)) => PathBuf::from("/var/cache/forebay/tools"),
        (None, None) => {
            std::env::temp_dir().join(format!("forebay-tools-{}", nix::unistd::geteuid()))
        }
    }
}

impl Cache {
    pub(crate) fn new(search: &Search, tool: &str) -> Self {
        Self { dir: search.cache.join(tool) }
    }

    /// The first complete entry that `probe` accepts.
    pub(crate) fn first<T>(&self, probe: impl Fn(&Path) -> Result<T, String>) -> Result<T, String> {
        let mut reasons = Vec::new();
        for source in ["apt", "pip"] {
            let entry = self.entry(source);
            if entry.is_dir() {
                match probe(&entry) {
                    Ok(tool) => return Ok(tool),
                    Err(reason) => reasons.push(reason),
                }
            }
        }
        Err(if reasons.is_empty() {
            format!("{} is empty", self.dir.display())
        } else {
            reasons.join(", ")
        })
    }

    /// Fills the entry `source`: `unpack` gets an empty directory, which takes its final name only
    /// when `unpack` has succeeded. Another process that fills the same entry is waited for, and
    /// its result taken when `probe` accepts it.
    pub(crate) fn fill<T>(
        &self,
        source: &str,
        unpack: impl FnOnce(&Path) -> Result<(), String>,
        probe: impl Fn(&Path) -> Result<T, String>,
    ) -> Result<(), String> {
        let failed = |action: &str, error: std::io::Error| {
            format!("{action} in {}: {error}", self.dir.display())
        };
        create_open(&self.dir).map_err(|e| failed("create the cache", e))?;
        let lock =
            std::fs::File::create(self.dir.join("lock")).map_err(|e| failed("open the lock", e))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("take the lock", errno.into()))?;
        let entry = self.entry(source);
        if entry.is_dir() && probe(&entry).is_ok() {
            return Ok(());
        }
        let fresh = entry.with_extension("new");
        for stale in [&fresh, &entry] {
            if stale.exists() {
                std::fs::remove_dir_all(stale).map_err(|e| failed("clear the cache", e))?;
            }
        }
        create_open(&fresh).map_err(|e| failed("create an entry", e))?;
        let outcome = unpack(&fresh).and_then(|()| probe(&fresh).map(drop));
        if let Err(reason) = outcome {
            // The lock is held, so what is left is cleared by the next attempt at the latest.
            let _cleared = std::fs::remove_dir_all(&fresh);
            return Err(reason);
        }
        std::fs::rename(&fresh, &entry).map_err(|e| failed("finish an entry", e))
    }

    fn entry(&self, source: &str) -> PathBuf {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        self.dir.join(format!("{source}-{os}-{arch}"))
    }
}

/// Creates `dir` and what is missing above it, open to the servers' user whatever the umask. What
/// was there before keeps its mode: it is not ours.
fn create_open(dir: &Path) -> std::io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match std::fs::create_dir(dir) {
            Ok(()) => std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))?,
            // Another process has just created it, and opens it as well.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Directories below `dir` that hold a file called `name`.
pub(crate) fn dirs_with(dir: &Path, name: &str) -> Vec<PathBuf> {
    directories(dir).into_iter().filter(|dir| dir.join(name).is_file()).collect()
}

/// A search path of the directories below `dir` that hold shared libraries.
pub(crate) fn library_path(dir: &Path) -> Option<OsString> {
    let is_library = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("lib") && (name.contains(".so") || name.ends_with(".dylib"))
    };
    let holds = |dir: &PathBuf| {
        std::fs::read_dir(dir)
            .is_ok_and(|entries| entries.flatten().any(|entry| is_library(&entry.path())))
    };
    let dirs: Vec<PathBuf> = directories(dir).into_iter().filter(holds).collect();
    if dirs.is_empty() { None } else { std::env::join_paths(dirs).ok() }
}

/// `dir` and the directories below it, links not followed, near ones first. `etc` is left out: start
/// scripts there bear the names of the programs that they start.
fn directories(dir: &Path) -> Vec<PathBuf> {
    const DEPTH_MAX: usize = 8;
    let mut all = vec![dir.to_path_buf()];
    let mut level = all.clone();
    for _ in 0..DEPTH_MAX {
        let mut next: Vec<PathBuf> = level
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flat_map(Iterator::flatten)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter(|entry| entry.file_name() != "etc")
            .map(|entry| entry.path())
            .collect();
        next.sort();
        all.extend(next.iter().cloned());
        level = next;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> Cache {
        Cache { dir: dir.join("tool") }
    }

    fn probe(dir: &Path) -> Result<String, String> {
        std::fs::read_to_string(dir.join("bin")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_failed_fill_leaves_nothing_and_a_good_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        assert!(cache.first(probe).unwrap_err().contains("is empty"));

        let broken = cache.fill("apt", |_| Err("no network".to_owned()), probe);
        assert_eq!(broken.unwrap_err(), "no network");
        let unusable = cache.fill("apt", |_| Ok(()), probe);
        assert!(unusable.is_err(), "an entry that does not pass its probe must not be kept");
        assert!(cache.first(probe).is_err());

        let write = |text: &'static str| {
            move |dir: &Path| std::fs::write(dir.join("bin"), text).map_err(|e| e.to_string())
        };
        cache.fill("apt", write("one"), probe).unwrap();
        assert_eq!(cache.first(probe).unwrap(), "one");
        cache.fill("apt", write("two"), probe).unwrap();
        assert_eq!(cache.first(probe).unwrap(), "one", "a good entry is kept");
        std::fs::remove_file(cache.entry("apt").join("bin")).unwrap();
        cache.fill("apt", write("two"), probe).unwrap();
        assert_eq!(cache.first(probe).unwrap(), "two", "a broken one is replaced");
    }

    #[test]
    fn only_new_directories_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let before = (mode(dir.path()), mode(dir.path().parent().unwrap()));
        create_open(&dir.path().join("a/b")).unwrap();
        assert_eq!((mode(dir.path()), mode(dir.path().parent().unwrap())), before);
        assert_eq!(mode(&dir.path().join("a")), 0o755);
        assert_eq!(mode(&dir.path().join("a/b")), 0o755);
    }

    #[test]
    fn programs_and_libraries_are_found_below() {
        let dir = tempfile::tempdir().unwrap();
        for name in
            ["etc/init.d/server", "usr/bin/server", "usr/lib/arch/liba.so.1", "usr/share/doc"]
        {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        assert_eq!(dirs_with(dir.path(), "server"), [dir.path().join("usr/bin")]);
        let libraries = library_path(dir.path()).unwrap();
        assert_eq!(PathBuf::from(libraries), dir.path().join("usr/lib/arch"));
    }
}
