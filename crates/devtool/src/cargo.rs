//! Cargo, run from the root of the checkout.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::workspace::Workspace;

/// The binaries that make up a running system, in the order in which they are built.
pub(crate) const PRODUCT: [&str; 3] =
    ["forebay-token-server", "forebay-pool-server", "forebay-migrate"];

/// The cargo that built this tool.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(&workspace.root);
    command
}

/// Where cargo puts the programs it builds: beside this one.
///
/// # Errors
///
/// When the system does not tell where this program is.
pub(crate) fn bin_dir() -> anyhow::Result<PathBuf> {
    Ok(own_program()?.parent().context("this program is in no folder")?.to_path_buf())
}

/// This program. A rebuild replaces the file while we run; the new one stands at the same path.
///
/// # Errors
///
/// When the system does not tell.
pub(crate) fn own_program() -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe().context("find this program")?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}
