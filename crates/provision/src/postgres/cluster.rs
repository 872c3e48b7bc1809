//! The data directory of a server: made by initdb, whole or not at all.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::PostgresTools;
use crate::identity::RunAs;
use crate::{ProvisionError, START_TIMEOUT, command};

/// Runs initdb unless the directory holds a cluster of this version. It works in a directory beside
/// the final one, so that an interrupted run leaves nothing that looks finished.
pub(super) fn initialise(
    tools: &PostgresTools,
    dir: &Path,
    user: Option<&RunAs>,
) -> Result<(), ProvisionError> {
    if let Ok(found) = std::fs::read_to_string(dir.join("PG_VERSION")) {
        let found = found.trim().to_owned();
        return if found == tools.major.to_string() {
            Ok(())
        } else {
            Err(ProvisionError::MajorVersion {
                path: dir.to_path_buf(),
                found,
                wanted: tools.major,
            })
        };
    }
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(ProvisionError::path("create", parent))?;
    }
    let mut last = None;
    // Not every system knows the UTF-8 variant of the C locale.
    for locale in ["C.UTF-8", "C"] {
        let fresh = beside(dir);
        create_owned(&fresh, user)?;
        let mut initdb = tools.command("initdb");
        initdb
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync"])
            .arg(format!("--locale={locale}"))
            .arg("-D")
            .arg(&fresh)
            .current_dir(&fresh);
        if let Some(user) = user {
            user.apply(&mut initdb);
            initdb.env("HOME", &fresh);
        }
        match command::run(initdb, START_TIMEOUT) {
            Ok(_) => {
                remove_dir(dir)?;
                return std::fs::rename(&fresh, dir)
                    .map_err(ProvisionError::path("rename", &fresh));
            }
            Err(error) => last = Some(error),
        }
        remove_dir(&fresh)?;
    }
    Err(last.expect("the loop runs at least once and only ends with an error"))
}

/// A directory to work in until all is done.
pub(super) fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    dir.with_file_name(name)
}

pub(super) fn remove_dir(dir: &Path) -> Result<(), ProvisionError> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ProvisionError::path("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

/// An empty directory that only the server's user can enter.
pub(super) fn create_owned(dir: &Path, user: Option<&RunAs>) -> Result<(), ProvisionError> {
    remove_dir(dir)?;
    std::fs::create_dir(dir).map_err(ProvisionError::path("create", dir))?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
        .map_err(ProvisionError::path("set the mode of", dir))?;
    if let Some(user) = user {
        std::os::unix::fs::chown(dir, Some(user.uid), Some(user.gid))
            .map_err(ProvisionError::path("change the owner of", dir))?;
    }
    Ok(())
}
