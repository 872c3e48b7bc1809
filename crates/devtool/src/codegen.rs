//! `cargo xtask codegen [--check]`: everything committed that is made of something else committed.
//!
//! The generator of the gRPC code is a crate of its own, so that the proto compiler is built only
//! when somebody needs it.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::prove::guarantees;
use crate::workspace::Workspace;
use crate::{cargo, say, settings};

const USAGE: &str = "usage: cargo xtask codegen [--check]
Rewrites crates/proto/src/gen from proto/, docs/settings.md from deploy/config and
docs/guarantees.md from the proofs of the crates; --check only tells whether they are stale.";

/// Rewrites what is generated, or tells whether it is stale.
///
/// # Errors
///
/// When the arguments are wrong, the generator cannot be started, or a page cannot be written.
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
    let pages =
        [settings::write_page(workspace, check)?, guarantees::write_page(workspace, check)?];
    let done = status.success() && pages.iter().all(|page| *page == ExitCode::SUCCESS);
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
