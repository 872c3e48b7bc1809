//! Which user a server runs as, and which directories that user can reach.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::ProvisionError;

/// The user a server runs as when that is not ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// User name.
    pub name: String,
}

impl RunAs {
    /// The user for servers that refuse root: `None` for an ordinary user, who runs them as
    /// himself; for root the user `postgres` when there is one, else `nobody`. No user is created.
    #[must_use]
    pub fn for_servers() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        ["postgres", "nobody"].into_iter().find_map(|name| {
            let user = nix::unistd::User::from_name(name).ok().flatten()?;
            (!user.uid.is_root()).then(|| Self {
                uid: user.uid.as_raw(),
                gid: user.gid.as_raw(),
                name: user.name,
            })
        })
    }

    /// Makes `command` run as this user. The standard library drops root's other groups as well.
    pub fn apply(&self, command: &mut Command) {
        use std::os::unix::process::CommandExt;
        command.uid(self.uid).gid(self.gid);
    }

    /// Whether this user can enter every directory down to `path`, as far as it exists.
    #[must_use]
    pub fn reaches(&self, path: &Path) -> bool {
        const GROUP_SEARCH: u32 = 0o010;
        const OTHER_SEARCH: u32 = 0o001;
        const OWNER_SEARCH: u32 = 0o100;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        absolute.ancestors().all(|dir| match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => {
                let needed = if meta.uid() == self.uid {
                    OWNER_SEARCH
                } else if meta.gid() == self.gid {
                    GROUP_SEARCH
                } else {
                    OTHER_SEARCH
                };
                meta.permissions().mode() & needed != 0
            }
            // What does not exist yet is created by us with the right mode.
            _ => true,
        })
    }
}

/// A directory that the server's user can reach: `preferred` itself, or, when a directory above it
/// keeps the user out (a checkout below `/root`, say), one in `/var/tmp` named after it.
///
/// # Errors
///
/// When neither will do.
pub fn reachable_dir(preferred: &Path, user: Option<&RunAs>) -> Result<PathBuf, ProvisionError> {
    let Some(user) = user else {
        return Ok(preferred.to_path_buf());
    };
    if user.reaches(preferred) {
        return Ok(preferred.to_path_buf());
    }
    let base = substitute(preferred);
    match std::fs::create_dir(&base) {
        Ok(()) => {}
        // Anyone may create names in /var/tmp: one that is not ours is not used.
        Err(_) if is_own_dir(&base) => {}
        Err(_) => {
            return Err(ProvisionError::Unreachable { user: user.name.clone(), tried: base });
        }
    }
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755))
        .map_err(ProvisionError::path("open up", &base))?;
    let name = preferred.file_name().unwrap_or_else(|| "data".as_ref());
    Ok(base.join(name))
}

/// The directory in `/var/tmp` that stands in for the parent of `preferred`.
#[must_use]
pub fn substitute(preferred: &Path) -> PathBuf {
    let parent = preferred.parent().unwrap_or(preferred);
    let digest = Sha256::digest(parent.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Path::new("/var/tmp").join(format!("forebay-{hash}"))
}

fn is_own_dir(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_directory_above_keeps_another_user_out() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        let stranger = RunAs { uid: 1_234_567, gid: 1_234_567, name: "stranger".to_owned() };

        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(stranger.reaches(&inner));
        assert!(stranger.reaches(&inner.join("not/there/yet")));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!stranger.reaches(&inner));
        assert_eq!(reachable_dir(&inner, None).unwrap(), inner);
        let moved = reachable_dir(&inner, Some(&stranger)).unwrap();
        assert!(stranger.reaches(&moved));
        assert_ne!(moved, inner);
        std::fs::remove_dir(substitute(&inner)).unwrap();
    }
}
