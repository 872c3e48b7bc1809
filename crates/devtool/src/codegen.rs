//! `cargo xtask codegen [--check]`: runs the generator, which is a crate of its own so that the
//! proto compiler is built only when somebody needs it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::workspace::Workspace;
use crate::{cargo, say};

const USAGE: &str = "usage: cargo xtask codegen [--check]
Rewrites crates/proto/src/gen from proto/; --check only tells whether it is stale.";

/// Rewrites the committed gRPC code, or tells whether it is stale.
///
/// # Errors
///
/// When the arguments are wrong, or the generator cannot be started.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut check = false;
    for arg in &args {
        match arg.to_str() {
            Some("--check") => check = true,
            Some("--help" | "-h") => {
                say::line(USAGE);
                return Ok(ExitCode::SUCCESS);
            }
            _ => bail!("{USAGE}"),
        }
    }
    let status = cargo::command(workspace)
        .args(["run", "--quiet", "--package", "forebay-codegen", "--"])
        .args(check.then_some("--check"))
        .status()
        .context("run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
