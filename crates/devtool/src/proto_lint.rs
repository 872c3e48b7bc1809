//! `cargo xtask proto lint` and `cargo xtask proto breaking [REF]`: the contracts keep the rules
//! of `proto/buf.yaml`, and change by addition only.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};

use crate::say;
use crate::workspace::Workspace;

mod buf;

const USAGE: &str = "usage: cargo xtask proto lint
       cargo xtask proto breaking [REF]   against a commit, HEAD unless told";

/// Runs `buf` on `proto/`.
///
/// # Errors
///
/// When the arguments are wrong, or `buf` is neither installed nor to be had.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut words = Vec::with_capacity(args.len());
    for arg in &args {
        words.push(arg.to_str().with_context(|| format!("unreadable argument\n{USAGE}"))?);
    }
    let protos = workspace.root.join("proto");
    match words.as_slice() {
        ["lint"] => buf(workspace, &protos, &["lint".to_owned()]),
        ["breaking"] => breaking(workspace, &protos, "HEAD"),
        ["breaking", reference] => breaking(workspace, &protos, reference),
        ["--help" | "-h"] => {
            say::line(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

/// Compares with the protos of `reference`, unpacked beside the build: `buf` itself would clone.
fn breaking(workspace: &Workspace, protos: &Path, reference: &str) -> anyhow::Result<ExitCode> {
    let before = workspace.root.join("target/proto-before");
    if before.exists() {
        std::fs::remove_dir_all(&before).context("remove the last comparison")?;
    }
    std::fs::create_dir_all(&before).context("make room for the comparison")?;
    let archive = before.join("proto.tar");
    let exported = Command::new("git")
        .args(["archive", "--output"])
        .arg(&archive)
        .args([reference, "proto"])
        .current_dir(&workspace.root)
        .output()
        .context("run git archive")?;
    ensure!(
        exported.status.success(),
        "read proto/ of {reference}: {}",
        String::from_utf8_lossy(&exported.stderr).trim()
    );
    buf::unpack(&archive, &before)?;
    let against = before.join("proto").display().to_string();
    buf(workspace, protos, &["breaking".to_owned(), "--against".to_owned(), against])
}

fn buf(workspace: &Workspace, protos: &Path, args: &[String]) -> anyhow::Result<ExitCode> {
    let program = buf::locate(workspace)?;
    let status = Command::new(&program)
        .args(args)
        .current_dir(protos)
        .status()
        .with_context(|| format!("run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
