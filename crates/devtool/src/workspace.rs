//! Where the checkout is, and where its instances keep their state.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The instance that is meant when none is named.
pub(crate) const DEFAULT_INSTANCE: &str = "default";

/// The checkout that this tool works on.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    pub(crate) root: PathBuf,
}

/// One running system of a checkout; several may run side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    /// Its name.
    pub(crate) name: String,
    /// Everything it keeps is below this folder.
    pub(crate) dir: PathBuf,
}

impl Workspace {
    /// The checkout that `cargo xtask` was called in, else the one that holds this crate.
    ///
    /// # Errors
    ///
    /// When there is no root manifest where it should be.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let built_from = || Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        let root = match std::env::var_os("FOREBAY_WORKSPACE") {
            Some(root) => PathBuf::from(root),
            None => built_from().context("devtool lives in crates/devtool")?.to_path_buf(),
        };
        ensure!(
            root.join("Cargo.toml").is_file(),
            "{} holds no Cargo.toml: call `cargo xtask` from inside the checkout",
            root.display()
        );
        Ok(Self { root })
    }

    /// The instance called `name`, or the default one. It need not exist yet.
    ///
    /// # Errors
    ///
    /// When the name would not do as the name of a folder.
    pub(crate) fn instance(&self, name: Option<&str>) -> anyhow::Result<Instance> {
        const LENGTH_MAX: usize = 32;
        let name = name.unwrap_or(DEFAULT_INSTANCE);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(
            !name.is_empty() && name.len() <= LENGTH_MAX && name.chars().all(plain),
            "an instance is named by 1 to {LENGTH_MAX} letters, digits, - and _; got {name:?}"
        );
        Ok(Instance { name: name.to_owned(), dir: self.dev_dir().join(name) })
    }

    /// Every instance that has left a trace in this checkout, in order of name.
    pub(crate) fn instances(&self) -> Vec<Instance> {
        let Ok(entries) = std::fs::read_dir(self.dev_dir()) else {
            return Vec::new();
        };
        let mut found: Vec<Instance> = entries
            .flatten()
            .filter_map(|entry| self.instance(entry.file_name().to_str()).ok())
            .filter(|instance| instance.dir.is_dir())
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    fn dev_dir(&self) -> PathBuf {
        self.root.join(".dev")
    }
}

impl Instance {
    /// The file that tells what runs where; see [`crate::state::State`].
    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// The folder of the logs, one file for each process.
    pub(crate) fn logs_dir(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The folder of the traces that the built-in receiver keeps.
    pub(crate) fn traces_dir(&self) -> PathBuf {
        self.dir.join("traces")
    }

    /// The file whose lock the supervisor holds.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// Creates the folders. Servers that run as another user must be able to pass through them,
    /// whatever the umask.
    ///
    /// # Errors
    ///
    /// When they cannot be created.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let logs = self.logs_dir();
        std::fs::create_dir_all(&logs).with_context(|| format!("create {}", logs.display()))?;
        for dir in self.dir.ancestors().take(2) {
            std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755))
                .with_context(|| format!("open up {}", dir.display()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_instances_are_safe_as_folders() {
        let workspace = Workspace { root: PathBuf::from("/w") };
        assert_eq!(workspace.instance(None).unwrap().dir, Path::new("/w/.dev/default"));
        assert_eq!(workspace.instance(Some("a-1")).unwrap().dir, Path::new("/w/.dev/a-1"));
        for name in ["", "..", "a/b", "a b", &"x".repeat(33)] {
            assert!(workspace.instance(Some(name)).is_err(), "{name:?}");
        }
    }
}
