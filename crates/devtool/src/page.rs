//! Pages that are committed and made of something else that is committed.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::say;
use crate::workspace::Workspace;

/// Writes `fresh` to the page at `path` from the root, or with `check` tells whether it is stale.
///
/// # Errors
///
/// When the page cannot be read or written.
pub(crate) fn write(
    workspace: &Workspace,
    path: &str,
    fresh: &str,
    check: bool,
) -> anyhow::Result<ExitCode> {
    let absolute = workspace.root.join(path);
    let committed = match std::fs::read_to_string(&absolute) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read {path}")),
    };
    if committed == fresh {
        return Ok(ExitCode::SUCCESS);
    }
    if check {
        say::warn(&format!("{path} is stale\nfix: cargo xtask codegen"));
        return Ok(ExitCode::FAILURE);
    }
    std::fs::write(&absolute, fresh).with_context(|| format!("write {path}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Text for a cell of a table, without what Markdown would take for something else.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
