//! `cargo xtask tidy`: the rules of the house that the compiler does not know.
//!
//! A rule is kept only where a check enforces it. Every finding is one line that says where,
//! which rule, and what to do about it.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use self::manifest::Root;
use self::tree::Tree;
use crate::say;
use crate::workspace::Workspace;

mod invariants;
mod layers;
mod leaks;
mod logs;
mod manifest;
mod manifests;
mod pages;
mod proofs;
mod rust;
mod tree;

#[cfg(test)]
mod tests;

const USAGE: &str = "usage: cargo xtask tidy
Checks what the compiler does not know: layers, owners of third-party crates, manifests, the lock
file, module documentation, file length, log messages, the tests that invariants name, what proofs
switch off, and the links of the pages.";

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    rule: &'static str,
    todo: String,
}

/// Checks the tree and prints what is wrong with it.
///
/// # Errors
///
/// When a file or a manifest cannot be read.
pub(crate) fn run(args: Vec<OsString>, workspace: &Workspace) -> anyhow::Result<ExitCode> {
    match args.first() {
        None => {}
        Some(help) if help == "--help" || help == "-h" => {
            say::line(USAGE);
            return Ok(ExitCode::SUCCESS);
        }
        Some(_) => bail!("{USAGE}"),
    }
    let findings = check(&workspace.root)?;
    for finding in &findings {
        say::warn(&finding.to_string());
    }
    if findings.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say::warn(&format!("tidy: {} to mend", findings.len()));
    Ok(ExitCode::FAILURE)
}

/// Every finding in the tree at `root`, by file and line.
///
/// # Errors
///
/// When a file or a manifest cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(root)?;
    let house = Root::read(&tree)?;
    let members = house.members(&tree)?;
    let mut findings = Vec::new();
    layers::membership(&house, &members, &mut findings);
    layers::edges(&house, &members, &mut findings);
    layers::owners(&house, &members, &mut findings);
    manifests::conventions(&house, &members, &mut findings);
    manifests::one_version(&house, &tree, &mut findings);
    manifests::sources(&tree, &mut findings);
    rust::files(&tree, &mut findings);
    rust::thin_binaries(&tree, &house, &members, &mut findings);
    rust::transport(&tree, &house, &members, &mut findings);
    logs::messages(&tree, &mut findings);
    leaks::places(&tree, &mut findings);
    pages::finished(&tree, &mut findings);
    invariants::tests_exist(&tree, &mut findings);
    proofs::can_run(&tree, &mut findings);
    findings.sort();
    Ok(findings)
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, todo: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, todo: todo.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.todo)
    }
}
