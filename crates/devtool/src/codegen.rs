//! `cargo xtask codegen [--check]`: runs the generator, which is a crate of its own so that the
//! proto compiler is built only when somebody needs it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cargo;
use crate::workspace::Workspace;

/// Rewrites the committed gRPC code, or tells whether it is stale.
///
/// # Errors
///
/// When the generator cannot be started.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let status = cargo::command(workspace)
        .args(["run", "--quiet", "--package", "forebay-codegen", "--"])
        .args(args)
        .status()
        .context("run cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
