//! What every manifest says, and what the lock file may hold.

use super::Finding;
use super::manifest::{Manifest, PREFIX, Publish, Root};
use super::tree::Tree;

/// Where every locked package must come from, whatever mirror a machine downloads it through.
const SOURCE: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// Name, lints, publishing and versions of every member.
pub(super) fn conventions(root: &Root, members: &[Manifest], findings: &mut Vec<Finding>) {
    for member in members {
        let mut report = |line: usize, rule: &'static str, todo: String| {
            findings.push(Finding::new(&member.path, line, rule, todo));
        };
        let expected = format!("{PREFIX}{}", member.folder);
        if member.package.text != expected {
            report(member.package.line, "package-name", format!("call the package `{expected}`"));
        }
        if !member.workspace_lints {
            report(1, "lints", "add `[lints]` with `workspace = true`".to_owned());
        }
        let private = match member.publish {
            Publish::Off => true,
            Publish::Inherited => root.publish_off,
            Publish::On => false,
        };
        if !private {
            let todo = "set `publish.workspace = true`, with `publish = false` in the root";
            report(member.package.line, "publish", todo.to_owned());
        }
        for dependency in &member.dependencies {
            if !dependency.from_workspace {
                let todo = format!(
                    "move `{}` to [workspace.dependencies] and say `workspace = true` here",
                    dependency.package
                );
                report(dependency.line, "workspace-version", todo);
            }
        }
    }
}

/// Crates that must be present once: two versions compile and then silently do not meet.
pub(super) fn one_version(root: &Root, tree: &Tree, findings: &mut Vec<Finding>) {
    let Some(lock) = tree.get("Cargo.lock") else {
        return;
    };
    for name in &root.one_version {
        let versions = locked_versions(&lock.text, &name.text);
        let todo = match versions.as_slice() {
            [_] => continue,
            [] => format!("remove `{}`, nothing depends on it", name.text),
            several => {
                let versions: Vec<&str> = several.iter().map(|(_, version)| *version).collect();
                format!("lock one version of `{}`, not {}", name.text, versions.join(" and "))
            }
        };
        match versions.get(1) {
            Some((line, _)) => {
                findings.push(Finding::new(&lock.path, *line, "one-version", todo));
            }
            None => findings.push(Finding::new("Cargo.toml", name.line, "one-version", todo)),
        }
    }
}

/// A lock file that names a mirror builds on one network only.
pub(super) fn sources(tree: &Tree, findings: &mut Vec<Finding>) {
    for lock in tree.files.iter().filter(|file| file.name() == "Cargo.lock") {
        for (index, line) in lock.text.lines().enumerate() {
            let Some(source) = quoted(line, "source = ") else {
                continue;
            };
            if source != SOURCE {
                let todo = format!("lock packages from {SOURCE} only");
                findings.push(Finding::new(&lock.path, index + 1, "lock-source", todo));
            }
        }
    }
}

/// The line and version of each locked package called `name`.
fn locked_versions<'a>(lock: &'a str, name: &str) -> Vec<(usize, &'a str)> {
    let lines: Vec<&str> = lock.lines().collect();
    lines
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| quoted(pair[0], "name = ") == Some(name))
        .filter_map(|(index, pair)| Some((index + 2, quoted(pair[1], "version = ")?)))
        .collect()
}

fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix('"')?.strip_suffix('"')
}
